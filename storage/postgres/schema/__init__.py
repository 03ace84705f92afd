"""The tables of the store: how they are made and changed, and how a moved store serves again.

Read `migrations/` for the tables themselves (numbered pairs of SQL, up and down), then
`migrate.py` (applying them, once each, under a lock) and `renumber.py` (after a restore into
another cluster).
"""
