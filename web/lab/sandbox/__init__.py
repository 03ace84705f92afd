"""A visitor's sandbox: real supervisors and actors, to be crashed, killed and flooded at will.

Read `words.py` (which places there are, and what is counted), `cast.py` (the actors that play
them), `desk.py` (the supervisors above), `stories.py` (what became of each crash, step by step),
`sandboxes.py` (whose sandbox is which, and how long it lives), `keeper.py` (the actor that
starts and ends them) and `recording.py` (what visitors did, as events).

A **place** is where an actor stands, whatever incarnation plays it: `feed-source`. It is all that
a visitor can name, so nobody can name what is not in their own sandbox (LAB-90).
"""
