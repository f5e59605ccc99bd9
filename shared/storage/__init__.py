"""The blob store and its formats.

Imports `download`, `errors`, `formats`, `ledger`, `models`, `urls`, `validation`.
"""
