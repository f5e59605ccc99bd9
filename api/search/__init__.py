"""Search: terms to a query vector, results, facets. Imports `context`, `encoding`, `http` and `models`."""
