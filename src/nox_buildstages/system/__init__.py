"""Processes, files, locks between processes, and the machine."""
