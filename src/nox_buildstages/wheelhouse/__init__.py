"""Wheels → something to install and to publish."""
