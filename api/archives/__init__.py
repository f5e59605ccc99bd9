"""Uploaded archives, and the names of uploaded files. Imports no other room."""
