"""What projections must do on every engine.

Read `filling.py` (documents, checkpoints, and the runner that fills them), `crashing.py` (whoever
is killed when), `parts.py` (one projection in several parts), `poison.py` (what cannot be applied),
`rebuilding.py` (generations side by side), `wishes.py` (what an operator wishes, in rows),
`waiting.py` (those who wait for one), `inline.py` (those that are part of an append) and
`searching.py` (documents by their words).
"""
