DROP TABLE socket_tickets;
DROP TABLE session_ends;
