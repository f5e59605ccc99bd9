"""The encoder in the API's process: loading, caches, what a score means. Imports no other room."""
