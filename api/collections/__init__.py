"""Collections: making, deleting, transfers. Imports `context`, `http`, `images`, `jobs`."""
