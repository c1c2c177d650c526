"""`build-stages-shell`: look into a build, change its source, build again."""
