"""Search: a request's terms, one query vector, results, facets, heat maps. Imports `http`, `models`, `encoding`."""
