"""WebSockets of client programs: a small JSON protocol, an actor for each connection.

Read `protocol.py` (decides what follows from each message, without a socket), then
`connection.py` (the actor that carries it out) with `topics.py` (what it hears, and what it missed)
and `commands.py` (what became of commands, by their ids), `outlet.py` (the sending half and its
backlog) and `endpoint.py` (the ASGI side: handshake, caps, reading, closing). `messages.py` is the
format and the closed list of commands.
"""
