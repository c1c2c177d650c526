"""Lock → wheels."""
