"""The checks: each is a function from facts to a finding, without I/O."""
