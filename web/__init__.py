"""How greenroom is reached: pages, streams, sockets, and the place where everything is wired.

Read in this order:

- `app/`: settings in, supervised tree out; `settings.py`: what an operator can set
- `wiring/`: the tree's plan, the web half composed, the start, the stop
- `site/`, `chat/`, `lab/`: a folder a feature: routes parse and ask actors, feeds fill streams;
  `documentation/` are the pages to be read
- `routing/`: what the routes of all features share
- `realtime/`: streams and sockets; `server/`: connections, drain, the edge every request passes
- `views/`: view models, templates, static files
- `cli/`: the command line; `observability/`: log lines

Fifteen, more than a room should have, because every feature is a folder of its own and is looked
for by its name. Arrows go one way: from `cli` over `app`, `wiring`, the features and `routing`
to `realtime`, `server` and `views`, with `settings.py` below all who read it; a feature may stand
on another's page, but no circle comes of it.
"""
