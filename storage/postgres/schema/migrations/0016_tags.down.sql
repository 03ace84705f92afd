-- With it go the tags of stored events, and what appends depend on: refused unless it is wished.
DROP TABLE event_tags;
ALTER TABLE events DROP COLUMN tags;
