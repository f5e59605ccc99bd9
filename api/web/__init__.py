"""The web page: one HTML shell and its static files. Imports `http`."""
