"""From bytes to requests: one strict reading of HTTP/1.1, before anything else sees a byte.

Read `heads.py` (the grammar of a head, as a table of rules), then `bodies.py` (where a body ends)
and `requests.py` (a connection's bytes, cut into heads and bodies). Pure: no socket, no clock.
"""
