"""Chat on the web: routes that hand posts to actors, and frames that carry rooms to browsers.

Read `presenting.py` (messages as view models), `frames.py` (what a stream is sent),
`room_feed.py` (one room's way to all its readers), `routes.py`.
"""
