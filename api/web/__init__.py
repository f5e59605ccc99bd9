"""The web page, one HTML shell and its static files, and the documentation's pages. Imports `http`."""
