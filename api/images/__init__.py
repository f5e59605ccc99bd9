"""Images: reading, changing, deleting, near-duplicates. Imports `context`, `http`, `jobs` and `search`."""
