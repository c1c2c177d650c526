"""One wheel file: METADATA and RECORD, a new version of it, two of them compared."""
