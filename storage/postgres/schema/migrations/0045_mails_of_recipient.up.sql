-- What became of somebody's own mails is shown to them, once a second while they look.
CREATE INDEX mails_of_recipient ON mails (recipient, changed_at);
