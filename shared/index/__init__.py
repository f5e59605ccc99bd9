"""The collections in Chroma.

Imports `batching`, `config`, `download`, `errors`, `formats`, `models`, `rfc3339`, `storage`, `urls`,
`validation`.
"""
