"""Checks of what the wheels of a release are, without a GPU: a file a check."""
