"""What an author writes and calls; the chapter that all others are there for.

Read `actor.py` first: the base class, with everything an actor itself calls. Then, where it
matters what comes of it: `timers.py` (ticks, and the end of a silence) and `relations.py` (how one
actor learns of another's end).
"""
