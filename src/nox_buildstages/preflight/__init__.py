"""Preflight: what would make a long build fail, found before the build compiles."""
