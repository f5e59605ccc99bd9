"""The collections in Chroma.

Imports `batching`, `config`, `download`, `errors`, `filters`, `formats`, `models`, `storage`,
`tracing`, `validation`.
"""
