"""The one reader of tables: CSV, JSON, Parquet and lists of URLs, as rows that can become items.

Imports `errors`, `models`, `validation`.
"""
