"""Compiler caches and the wrappers that lead compilers through them."""
