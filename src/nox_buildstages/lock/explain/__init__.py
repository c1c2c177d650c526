"""Why an environment cannot be resolved, and what settles it."""
