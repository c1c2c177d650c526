"""uv's settings and logins, and URLs without secrets."""
