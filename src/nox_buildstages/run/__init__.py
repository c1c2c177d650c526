"""One run of nox: its command line, processes, journal, progress and summary."""
