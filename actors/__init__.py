"""What happens: the actors, and the ports they need. Nothing here does I/O by itself.

- `actors.runtime`      what an actor is, how it is reached, how it runs: read this one first
- `actors.testing`      probes and the seeded simulation; `unfinished.py` is what pytest loads of it
- `actors.reducers`     the pure half: the environment that decisions are made in
- `actors.persistence`  the ports of event sourcing, and the event-sourced actor
- `actors.sagas`        work over several participants, done as a whole or undone
- `actors.chat`, `actors.accounts`  the domains: rooms, and visitors' sessions

Who restarts whom lives in `supervision`; where things are kept in `storage`; how they are
reached in `web`.
"""
