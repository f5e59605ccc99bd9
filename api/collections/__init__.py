"""Collections: making, deleting, export, import, reindex.

Imports `context`, `http`, `images`, `jobs`, `models`.
"""
