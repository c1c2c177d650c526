"""A project at work in one session: its options, Pythons and locks."""
