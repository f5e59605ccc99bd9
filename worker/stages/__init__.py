"""The stages of a chunk, one module for each thing that is done with it. Imports `recovery`."""
