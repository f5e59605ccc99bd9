"""What keeps work from being lost: leases, the sweeper, rebuilding. Imports no other room."""
