"""What holds for every request: who may ask, how often, bodies, errors. Imports no other room."""
