"""Jobs: reading what is to be ingested, status, items, events. Imports `http` and `models`."""
