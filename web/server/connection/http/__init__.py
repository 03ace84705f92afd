"""HTTP/1.1 on one connection, spoken by ourselves or, where it leaves HTTP, by a library.

Read `plain.py` (request after request, in one task), then `exchange.py` (one request and its
answer, as ASGI sees them) and `answers.py` (their bytes). `library.py` is what hypercorn and h11
do: WebSocket handshakes, and every request where `TransportSettings.uses_library` says so;
`websocket.py` is what follows a handshake. Both roads are fed by `web/server/reading`.
"""
