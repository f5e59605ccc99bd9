"""Models and what they compute. Imports `config`, `errors`, `formats`, `imaging`, `models`, `storage`."""
