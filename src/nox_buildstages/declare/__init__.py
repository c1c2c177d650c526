"""What the user wrote → model; pure."""
