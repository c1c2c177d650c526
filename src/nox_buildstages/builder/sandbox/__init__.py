"""The sandbox of build backends: what is allowed, and how it is enforced."""
