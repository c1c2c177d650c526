"""`build-stages-plan`: what would be built, and why."""
