"""What the tests share: packages made from nothing, an index, a project."""
