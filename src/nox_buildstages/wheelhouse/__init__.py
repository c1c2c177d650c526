"""The wheelhouse: folder, manifest, index and checksums."""
