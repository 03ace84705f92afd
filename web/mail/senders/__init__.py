"""The ways a mail can go: read `port.py`, then `smtp.py`; the others are for desks and tests.

`console.py` prints it, `file.py` writes a file for each, `memory.py` keeps it.
"""
