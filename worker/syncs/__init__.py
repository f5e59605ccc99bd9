"""What a sync is beside its pictures: the listing, its comparison with what was brought, and the end.

Imports `database`, `listings`, `stages`.
"""
