-- How long a word to each other node and back takes, as the node measured it last: seconds by id.
ALTER TABLE nodes ADD COLUMN trips jsonb NOT NULL DEFAULT '{}';
