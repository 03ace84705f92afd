"""The log itself: what `event_store.py` runs on a connection.

Read `appending.py` (one, many, a batch: each in one statement), then `reading.py` (streams
by version, and the global order), `tagging.py` (by tags, and what appends may depend on),
`closing.py` (streams that end) and `rows.py` (an event as a row, and back). `sharing.py` is one
statement for the single events of many callers, and `gathering.py` says who shares it. The keys
of private fields stand in `subject_keys.py`, and what streams came to in `snapshots.py`: two ports
of their own.
"""
