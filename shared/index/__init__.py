"""The collections in Chroma: records, filters, searches and writes.

Imports `download`, `errors`, `formats`, `models`, `rfc3339`, `storage`, `validation`.
"""
