"""What makes a sync of a source: its listing is compared with what it has brought, and what it brought is kept.

Imports `database`, `listings`, `stages`.
"""
