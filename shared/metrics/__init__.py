"""What the roles count, and its export to Prometheus. Imports `errors`, `ledger`, `version`."""
