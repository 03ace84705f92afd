-- Actors of a cluster that begin without a message wherever their shard goes.
CREATE TABLE remembered (
    kind text NOT NULL,
    id text NOT NULL,
    shard int NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX remembered_shard ON remembered (shard, kind, id);
