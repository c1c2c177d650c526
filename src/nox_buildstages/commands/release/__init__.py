"""`build-stages-release`: publish a wheelhouse, with index, provenance and SBOM."""
