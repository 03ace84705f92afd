DROP TABLE mail_suppressed;
DROP TABLE mails;
