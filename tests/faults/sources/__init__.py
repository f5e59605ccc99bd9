"""Faults while a source is synced, and what must be true of its collection afterwards."""
