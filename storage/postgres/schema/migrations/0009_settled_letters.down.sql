DROP TRIGGER dead_letters_emptied ON dead_letters;
DROP TRIGGER dead_letters_removed ON dead_letters;
DROP TRIGGER dead_letters_added ON dead_letters;
DROP FUNCTION count_dead_letters();
DROP TABLE dead_letter_room;
DROP INDEX dead_letter_audit_at;
DROP INDEX dead_letters_final;
DROP INDEX dead_letters_open;
-- Of several letters of one failure the newest stays.
DELETE FROM dead_letters d USING dead_letters o
WHERE o.kind = d.kind AND o.source = d.source AND o.message_id = d.message_id AND o.id > d.id;
ALTER TABLE dead_letters ADD UNIQUE (kind, source, message_id);
