"""Jobs: reading what is to be ingested, status, items, events. Imports `context` and `http`."""
