DROP TABLE sagas;
DROP TABLE audit_log;
