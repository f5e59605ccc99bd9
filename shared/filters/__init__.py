"""Filters: conditions on images, and how a request says them.

Imports `errors`, `models`, `rfc3339`, `urls` and `validation`.
"""
