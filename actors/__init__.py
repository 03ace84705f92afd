"""What happens: the actors, and the ports they need. Nothing here does I/O by itself.

- `actors.runtime`      mailboxes, refs, handlers, lifecycle: read this one first
- `actors.testing`      probes and the seeded simulation
- `actors.reducers`     the pure half: state and action in, effects out
- `actors.persistence`  the ports of event sourcing, and the event-sourced actor
- `actors.accounts`, `actors.chat`  the domains

Who restarts whom lives in `supervision`; where things are kept in `storage`; how they are
reached in `web`.
"""
