"""Collections: making, deleting, export, import, reindex. Imports `http`, `models`, `jobs`."""
