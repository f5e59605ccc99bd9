"""Search: terms to a query vector, results, facets. Imports `context`, `encoding` and `http`."""
