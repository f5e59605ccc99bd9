"""The commands that speak HTTP to a server. Imports `client` and `models`."""
