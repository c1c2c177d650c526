"""Make locks: ask uv for versions, and build backends for metadata."""
