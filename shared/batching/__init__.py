"""Computing together what waits for the same. Imports nothing."""
