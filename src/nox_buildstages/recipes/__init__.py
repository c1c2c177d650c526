"""A catalogue of facts about packages that are built from source."""
