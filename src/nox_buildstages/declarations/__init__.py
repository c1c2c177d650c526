"""The declarations of a project for other tools, such as uv's settings."""
