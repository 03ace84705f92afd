"""The actor behind every supervisor: it tells its machine what happened and does what that decides.

Read `supervising.py` (the actor, and how a call reaches it) and `hands.py` (events in, moves
carried out), then what the hands work with: `cells.py` (the children's cells, made and found by
key), `tickets.py` (calls that wait for their answer), `passivation.py` (stopping the idle).
"""
