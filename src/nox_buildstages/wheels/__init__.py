"""Wheel files: read and verify one, change its version, compare two of them."""
