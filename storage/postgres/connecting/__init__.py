"""From a trio task to an open session: everything between a port and asyncpg.

Read `database.py` (the handle that trio tasks call, and who gives it its loop), then
`storage/asyncio_thread.py` (the hand-over between the two event loops), `pool.py` (connections
lent one at a time) and `session.py` (one connection; what the driver's errors mean). `notices.py`
wakes readers after commits, `health.py` says how the store is.
"""
