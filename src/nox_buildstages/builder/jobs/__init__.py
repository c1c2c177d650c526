"""How many compilers a build may run beside the others of this machine."""
