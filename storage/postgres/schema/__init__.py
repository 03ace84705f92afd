"""The tables of the store: how they are made and changed, and what is done to them by hand.

Read `migrations/` for the tables themselves (numbered pairs of SQL, up and down), then
`migrate.py` (applying them, once each, under a lock that `holding.py` keeps), `renumber.py` (after
a restore into another cluster), `rewind.py` (after a way back in time), `checking.py` (whether all
of it is whole) and `audit.py` (who did what by hand).
"""
