"""Sources: defining them, starting their syncs, deleting them. Imports `context`, `http`, `jobs`."""
