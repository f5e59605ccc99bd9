"""The models that a process serves: their downloads, and the places of those that are loaded."""
