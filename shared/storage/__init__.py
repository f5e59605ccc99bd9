"""The blob store and its formats.

Imports `errors`, `formats`, `ledger`, `models`, `urls`, `validation`.
"""
