"""Sources: what a collection is kept in step with, where it may read, and how its syncs are started.

Imports `config`, `errors`, `formats`, `ledger`, `models`, `services`, `storage`, `tracing`,
`validation`.
"""
