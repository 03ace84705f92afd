"""Reducers on a store: their effects, and states that outlive their process.

Read `effects.py` (append, load, snapshots as values), then `recording.py` (what an event-sourced
reducer decides, and what its events are reduced in) and `event_sourced.py` (its actor), and
`delays.py` (delays that come back after a restart).
"""
