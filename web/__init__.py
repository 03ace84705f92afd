"""How greenroom is reached: pages, streams, sockets, and the place where everything is wired.

Read in this order:

- `app.py`: the composition root, settings in, supervised tree out
- `site_tree.py`: who is in the tree; `composition.py`: the web half; `directory.py`: who is where
- `chat/`, `lab/`, `site/`: a folder a feature: routes parse and ask actors, feeds fill streams
- `realtime/`: streams and sockets; `server/`: connections, drain, the edge every request passes
- `views/`: templates and view models; `cli/`: the command line
"""
