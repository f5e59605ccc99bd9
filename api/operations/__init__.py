"""Health, metrics and the system's state. Imports `collections`, `context` and `http`."""
