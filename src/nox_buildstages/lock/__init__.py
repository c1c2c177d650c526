"""Lock files: what they are, how they are made, and why they cannot be."""
