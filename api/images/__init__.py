"""Images: reading, changing, deleting, near-duplicates. Imports `context`, `http`, `models` and `search`."""
