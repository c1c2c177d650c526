"""Scripts, run in a new process each and never imported."""
