"""The running site, put together: the only place that knows every part.

Read `site_tree.py` (who is in the tree, and who restarts whom), `composition.py` (the web half:
from a running tree and a port to a served application), `directory.py` (where an actor is found),
`ending.py` (what closes when a browser session is over), `stopping.py` (the server as an actor, and
the order of the end). What every site has stands in `frame/`, and the plan of a site of one's own.
`environment.py` is the real clock and the real ids, `secret.py` what cookies are signed with.
Storage is opened by `web.app`.
"""
