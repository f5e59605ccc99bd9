"""The encoder in the API's process: loading, cached texts, what a score means. Imports no other room."""
