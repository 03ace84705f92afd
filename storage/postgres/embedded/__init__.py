"""The PostgreSQL that comes with the package, for whoever sets no `DATABASE_URL`.

Read `server.py` (made, started, watched, stopped), then `process.py` (the guard, and how
each process is ended), `disk.py` (what happens before the disk is full) and `account.py` (as
whom it runs, when we are root).
"""
