"""What the roles count, and its export to Prometheus.

Imports `download`, `errors`, `ledger`, `models`, `version`.
"""
