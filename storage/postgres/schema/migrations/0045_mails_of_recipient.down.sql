DROP INDEX mails_of_recipient;
