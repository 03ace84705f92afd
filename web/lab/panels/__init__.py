"""The lab's other tabs: what a visitor measures, and what they have open.

Read `bucket.py` (how many probes one may send), `burst.py` (the probe itself), then `open_now.py`
(what of a session is open, and since when), `feed.py` (it is sent while it is seen),
`dropping.py` (a visitor cuts something of their own), `failures.py` (a page of its own) and
`failures_feed.py` (what changes in it).
"""
