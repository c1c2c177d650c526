"""Build stages for nox: locked environments that turn sources into wheels."""
