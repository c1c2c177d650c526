"""Builds one stage: its outputs, attempts, backend, sandbox and supervisor."""
