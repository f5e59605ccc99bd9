"""Health, metrics and the system's state. Imports `http` and `models`."""
