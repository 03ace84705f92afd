"""What is read of events besides streams and the log, a file each.

By their tags, with appends that depend on them (`tagging.py`); under names of before, whole or in
parts (`evolving.py`); as states and views that are made on request (`folding.py`); and by each
tenant its own (`tenants.py`).
"""
