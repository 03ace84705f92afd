-- What nodes compare at a start to know that they have one secret and one cluster's name: keyed
-- hashes that tell neither. Empty of nodes of releases before.
ALTER TABLE nodes ADD COLUMN seals text NOT NULL DEFAULT '',
    ADD COLUMN believes text NOT NULL DEFAULT '';
