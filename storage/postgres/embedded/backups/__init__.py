"""Backups of the embedded server, and how it is taken to a moment that has been.

Read `planning.py` (pure: from what is kept to what can be restored), `folder.py` (what is kept,
as it lies on the disk), then `taking.py` (base and incremental) and `restoring.py` (to a moment).
What is archived is told one chapter above (`archive.py`).
"""
