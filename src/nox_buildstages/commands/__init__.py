"""What each session does, a module or a folder for each."""
