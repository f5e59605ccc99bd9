"""Search: from terms to one query vector, results, facets. Imports `http`, `models`, `encoding`."""
