"""Logins for servers, and URLs without secrets."""
