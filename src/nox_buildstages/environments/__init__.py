"""Interpreters, targets, and environments that are made equal to their locks."""
