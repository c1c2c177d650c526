"""Sources of outputs: fetched, verified, unpacked and patched."""
