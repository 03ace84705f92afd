"""Chat on the web: routes that hand posts to actors, and frames that carry rooms to browsers.

Read `routes.py` (a post comes in), `room_feed.py` (one room's way to all its readers), then what
the feed works with: `window.py` (the newest messages), `presenting.py` (as pages show them, as
streams are sent them), `readers.py` (who shows the room). `socket.py` is chat for programs, and
`socket_feed.py` the Lobby's way to them.
"""
