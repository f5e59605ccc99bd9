"""The collections in Chroma: records, filters, searches and writes. Imports `storage` only."""
