"""What `make demo` runs: the stack, a few hundred drawings in it, some searches."""
