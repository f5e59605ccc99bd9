"""Fetching URLs safely, at a rate that their hosts bear. Imports `ledger` only."""
