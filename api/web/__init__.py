"""The web page: HTML shell, static files, documentation. Imports `context`, `http` and `models`."""
