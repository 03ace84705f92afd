"""The tree as others see it: what stands where now, what stood there before, what went wrong.

Read `tree.py` (nodes, changes, a snapshot, following it), then `history.py` (any moment of the
past) and `reports.py` (one report for each crash, failed start and giving up).
"""
