"""Model → lock files."""
