"""Wheels by key, and the folders they are built in."""
