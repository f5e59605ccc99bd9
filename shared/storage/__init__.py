"""The blob store and the formats of what lies in it. Imports `ledger` only."""
