"""The wheelhouse: its folder, manifest, index and checksums."""
