"""The lab's other tabs: what a visitor measures.

Read `bucket.py` (how many probes one may send), then `burst.py` (the probe itself).
"""
