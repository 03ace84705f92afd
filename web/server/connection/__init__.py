"""One connection, from accept to the last byte.

Read `transport.py` (its life and its deadlines), then `pipe.py` (the only writer) and `http/` (who
speaks HTTP/1.1 on it). `lanes.py` is how a stream or socket writes past ASGI, with `framing.py`
(what the bytes look like); `listening.py` accepts, and `overload.py` says whose request may not
begin while the loop is late; `settings.py` holds every limit. Nothing here
knows Quart, a route or the edge.
"""
