"""Images: reading, changing, deleting, near-duplicates. Imports `context`, `http` and `search`."""
