"""Which stages a project should declare, found out by trying."""
