"""Wheels by key, build directories, history, the remote store, and pruning."""
