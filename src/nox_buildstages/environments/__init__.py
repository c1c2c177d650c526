"""Interpreters, targets, and environments equal to locks."""
