"""What a lock file is, when it is out of date, and what changed in it."""
