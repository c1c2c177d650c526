"""`build-stages-release`: makes a wheelhouse fit to publish."""
