"""HTTP on one connection, spoken by ourselves or, where it leaves HTTP, by a library.

Read `plain.py` (request after request, in one task), then `exchange.py` (one request and its
answer, as ASGI sees them) and `answers.py` (their bytes); `shedding.py` reads for connections at
rest while there is too much to do. `http2.py` is HTTP/2, many requests at once, `websocket.py` a
WebSocket, from its handshake on, and `keeping.py` a stream that goes on behind its request.
`library.py` is what hypercorn and h11 do where `TransportSettings.uses_library` says so: every
request of HTTP/1.1. The grammar of `web/server/reading` judges every head, on all roads.
"""
