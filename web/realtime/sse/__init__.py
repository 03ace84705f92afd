"""The streams of pages: server-sent events over HTTP, one stream for each tab.

Read `stream.py` (one stream: written to synchronously, with a backlog), then `streams.py` (all of
them, their caps, and the actor each has), `heartbeats.py` (what all are sent that are silent) and
`responding.py` (the HTTP answer around one). `encoding.py` is the format, as Datastar reads it;
`parser.py` reads it back.
"""
