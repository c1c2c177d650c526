"""`build-stages-init`: proposes stages for the dependencies that have no wheel."""
