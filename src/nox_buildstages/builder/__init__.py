"""Build the outputs of a stage: attempts, backend, sandbox and supervisor."""
