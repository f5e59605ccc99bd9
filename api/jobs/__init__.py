"""Jobs: reading what is to be ingested, status, items, events. Imports `context`, `http` and `models`."""
