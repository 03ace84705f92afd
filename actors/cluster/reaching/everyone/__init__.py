"""What all nodes hear: topics and services, who is present, and how far away each is.

Read `topics.py`, then `members.py` (the sets of present members, pure) and `presence.py`, which
carries them over the link; `trips.py` measures it.
"""
