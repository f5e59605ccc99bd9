"""What starts the roles: command line, embedded stack, server. The one package that knows all others."""
