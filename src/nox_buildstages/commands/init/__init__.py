"""`build-stages-init`: proposes stages for dependencies without a wheel."""
