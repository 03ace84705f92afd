"""One connection, from accept to the last byte: hypercorn's protocols with our hands on the socket.

Read `transport.py` (its life and its deadlines), then `pipe.py` (the only writer) and `lanes.py`
(how a stream or socket writes past ASGI: the fast lane), with `framing.py` (what the bytes look
like). `http1.py` and `websocket.py` are where hypercorn is changed; `listening.py` accepts;
`settings.py` holds every limit. Nothing here knows Quart, a route or the edge.
"""
