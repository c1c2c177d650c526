"""Lock files: their format, whether they are up to date, and their differences."""
