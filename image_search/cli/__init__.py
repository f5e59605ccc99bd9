"""The commands that speak HTTP to a server.

Imports `_bodies`, `_client`, `_progress`, `_sources` and `models`.
"""
