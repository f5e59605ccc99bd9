"""Health, metrics and the system's state. Imports `context`, `http` and `models`."""
