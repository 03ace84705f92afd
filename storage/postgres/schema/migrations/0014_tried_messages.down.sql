DROP INDEX outbox_tried;
