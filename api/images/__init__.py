"""Images one by one: reading, changing, deleting, near-duplicates. Imports `http`, `models`, `search`."""
