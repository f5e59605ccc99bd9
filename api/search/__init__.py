"""Search: terms to a query vector, lists of results, facets. Imports `context`, `encoding` and `http`."""
