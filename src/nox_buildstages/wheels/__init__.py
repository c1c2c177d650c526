"""Wheel files: read, verify, relabel and compare them."""
