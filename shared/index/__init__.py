"""The collections in Chroma.

Imports `batching`, `config`, `download`, `errors`, `filters`, `formats`, `metrics`, `models`, `storage`,
`tracing`, `validation`.
"""
