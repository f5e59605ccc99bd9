"""The client of the HTTP API, for programs and the command line. Imports `models`."""
