ALTER TABLE shards RESET (fillfactor);
DROP INDEX shards_epoch;
DROP TABLE cluster_meta;
DROP TABLE nodes;
