"""The ledger: what every job, item and chunk is doing, in Redis. Imports no other room."""
