"""Listing what a source has now, and reading one object of it.

Imports no other room of this package.
"""
