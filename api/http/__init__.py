"""What holds for every request: who may ask, how much, how bodies are read and errors told. Imports `models`."""
