"""What every job, item and chunk is doing, in Redis. Imports `errors`, `formats`, `models`, `validation`."""
