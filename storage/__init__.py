"""Where things are kept: adapters of the ports that `actors` declares.

Read first:

- `errors`: the words used when something goes wrong, here and in every adapter;
- `memory/`: each port in plain Python, the running specification and everyone's fake;
- `postgres/`: the same file names, on PostgreSQL through asyncpg;
- `link/`: messages between nodes;
- `testing/`: one conformance suite per port, run on every adapter.

Nothing here imports `web`; only `storage` names a database driver.
"""
