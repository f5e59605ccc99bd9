"""What the roles count, and its export to Prometheus. Imports `errors`, `ledger`, `models`, `version`."""
