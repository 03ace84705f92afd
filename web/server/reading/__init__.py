"""From bytes to requests: one strict reading of HTTP/1.1, before anything else sees a byte.

Read `heads.py` (the grammar of a head, as a table of rules), then `bodies.py` (where a body ends)
and `requests.py` (a connection's bytes, cut into heads and bodies). `http2_heads.py` judges heads
that came by HTTP/2, then reads them by the same grammar. Pure: no socket, no clock.
"""
