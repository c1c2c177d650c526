"""How lock files are made: uv resolves, build backends are asked for metadata."""
