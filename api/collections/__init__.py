"""Collections: making, deleting, export, import, reindex. Imports `context`, `http`, `jobs` and `models`."""
