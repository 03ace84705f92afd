"""HTTP on one connection, spoken by ourselves or, where it leaves HTTP, by a library.

Read `plain.py` (request after request, in one task), then `exchange.py` (one request and its
answer, as ASGI sees them) and `answers.py` (their bytes); `http2.py` is HTTP/2, many requests at
once. `library.py` is what hypercorn and h11 do: WebSocket handshakes, and every request of HTTP/1.1
where `TransportSettings.uses_library` says so; `websocket.py` is what follows a handshake. The
grammar of `web/server/reading` judges every head, on all roads.
"""
