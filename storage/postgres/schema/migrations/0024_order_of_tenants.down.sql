DROP INDEX events_of_tenant;
