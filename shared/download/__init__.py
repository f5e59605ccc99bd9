"""Fetching URLs safely, at a rate that their hosts bear. Imports `errors`, `ledger`, `version`."""
