"""Explain why an environment can't be resolved, with a way out."""
