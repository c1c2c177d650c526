"""Lock files: format, resolution, and explanations of conflicts."""
