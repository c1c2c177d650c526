"""Shapes, compiled against numpy."""
