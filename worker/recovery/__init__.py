"""What keeps work from being lost: leases, isolation, the sweeper, rebuilding. Imports no other room."""
