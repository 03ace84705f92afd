-- Who serves this store together, and who owns which shard. `shards` is there since 0004.
CREATE TABLE nodes (
    node_id uuid PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    weight int NOT NULL CHECK (weight >= 1),
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    link text NOT NULL CHECK (link IN ('up', 'down')),
    state text NOT NULL CHECK (state IN ('joining', 'up', 'draining', 'gone'))
) WITH (fillfactor = 50);

-- One row: into how many shards all is divided, for as long as the store lives.
CREATE TABLE cluster_meta (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    shards int NOT NULL CHECK (shards >= 1)
);

-- An epoch that is part of a key: to raise it waits for appends, which hold FOR KEY SHARE, while a
-- renewal of the lease beside them does not. Rows are renewed every second, on their own page.
CREATE UNIQUE INDEX shards_epoch ON shards (id, epoch);
ALTER TABLE shards SET (fillfactor = 50);
