DROP TABLE events;
DROP FUNCTION refuse_change();
DROP TABLE store_meta;
