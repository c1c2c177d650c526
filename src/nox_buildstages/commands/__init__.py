"""The sessions of nox-buildstages: a module or a folder for each session."""
