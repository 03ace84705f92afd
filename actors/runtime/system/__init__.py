"""One running system, and the ways to its actors.

Read `opening.py` first (what `open_actors` opens, and closes in which order), then `system.py`
(names, figures, the port for owners, the surroundings that a simulation replaces); at need
`making.py` (what of a start is an option, what an argument of the class), `reaching.py` (by name,
many at once, from other threads) and `topics.py` (publish and subscribe).
"""
