"""The blob store and the formats of what lies in it.

Imports `errors`, `formats`, `ledger`, `models`, `validation`.
"""
