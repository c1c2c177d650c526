"""Compiler caches, and wrappers for compilers."""
