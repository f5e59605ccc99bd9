"""Jobs: reading what is to be ingested, status, items, events. Imports `archives`, `context` and `http`."""
