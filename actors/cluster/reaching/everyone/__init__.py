"""What all nodes hear: topics and services, and who is present.

Read `topics.py`, then `members.py` (the sets of present members, pure) and `presence.py`, which
carries them over the link.
"""
