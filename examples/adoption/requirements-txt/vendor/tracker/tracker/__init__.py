"""Follows objects."""
