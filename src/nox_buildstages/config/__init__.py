"""Reads a pyproject.toml into a project for each cell of the matrix."""
