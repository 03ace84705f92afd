ALTER TABLE store_meta DROP COLUMN timeline;
