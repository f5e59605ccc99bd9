"""Health, metrics and the system's state. Imports `collections`, `context`, `encoding`, `http`."""
