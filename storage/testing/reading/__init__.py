"""What is read of events besides streams and the log: `tagging.py`, `evolving.py`, `folding.py`.

By their tags, with appends that depend on them; under names of before, whole or in parts; and as
states and views that are made on request.
"""
