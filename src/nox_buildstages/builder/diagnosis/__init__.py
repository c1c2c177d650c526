"""Say why a build failed, and what helps."""
