"""What every site has, ours and one's own, and the plan of one's own.

Read `own_site.py` (the plan, and what its functions are handed), then `panels.py` and `topics.py`
(what a plan may have beside pages). `serving.py` (origins, limits, the drain, the children that
serve), `probes.py` (files and health) and `finding.py` (actors by name) are our own site's too;
`composing.py` puts a site of one's own together. It is opened by `web.app`.
"""

from web.wiring.frame.own_site import (
    Beside,
    Kept,
    Members,
    NothingBeside,
    OwnBus,
    OwnSite,
    Searching,
    SitePlan,
)
from web.wiring.frame.panels import Panel, PanelOf
from web.wiring.frame.topics import Command, Speaker, Topic, command

__all__ = [
    "Beside",
    "Command",
    "Kept",
    "Members",
    "NothingBeside",
    "OwnBus",
    "OwnSite",
    "Panel",
    "PanelOf",
    "Searching",
    "SitePlan",
    "Speaker",
    "Topic",
    "command",
]
