"""The collections in Chroma.

Imports `config`, `download`, `errors`, `formats`, `models`, `rfc3339`, `storage`, `urls`, `validation`.
"""
