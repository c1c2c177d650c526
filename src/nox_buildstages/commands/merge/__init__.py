"""`build-stages-merge`: makes one wheelhouse of several."""
