"""The web page: HTML shell, static files, documentation. Imports `context`, `http`, `jobs` and `search`."""
