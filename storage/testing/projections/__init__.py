"""What projections must do on every engine.

Read `filling.py` (documents, checkpoints, and the runner that fills them), `parts.py` (one
projection in several parts), `poison.py` (what cannot be applied), `rebuilding.py`
(generations side by side), `wishes.py` (what an operator wishes, in rows), `waiting.py` (those who
wait for one) and `inline.py` (those that are part of an append).
"""
