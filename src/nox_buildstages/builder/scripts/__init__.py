"""Programs that are run in a process of their own and never imported."""
