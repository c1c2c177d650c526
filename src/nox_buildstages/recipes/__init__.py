"""What the field knows of packages that are built from source: a catalogue."""
