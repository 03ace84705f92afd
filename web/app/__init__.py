"""The composition root: settings in, supervised tree out. The only place that names adapters.

`open_site` and `serve_site` (`own.py`) open a site of one's own from a `SitePlan`; its words are
in `web.wiring.frame`, and offered here too. `running.py` opens our own site, `serving.py` is the
process around either: log lines, signals, exit codes. `health.py`: what is checked of a database.
"""

from actors.cluster import Host
from web.app.health import check_store, store_components
from web.app.own import open_site, serve_site
from web.app.running import (
    COLLECTED_AFTER,
    EXAMPLES_FOLDER,
    CannotStart,
    make_cleaner,
    prepare_database,
    prepare_state_dir,
    run_site,
    spare_what_stays,
    store_of,
)
from web.app.serving import run_program
from web.observability.health import Component, Finding, degraded, healthy, unhealthy
from web.observability.health.of_store import bus_component
from web.realtime import Refused
from web.wiring.frame import (
    Beside,
    Command,
    NothingBeside,
    OwnBus,
    OwnSite,
    Panel,
    PanelOf,
    Searching,
    SitePlan,
    Speaker,
    Topic,
    command,
)

__all__ = [
    "COLLECTED_AFTER",
    "EXAMPLES_FOLDER",
    "Beside",
    "CannotStart",
    "Command",
    "Component",
    "Finding",
    "Host",
    "NothingBeside",
    "OwnBus",
    "OwnSite",
    "Panel",
    "PanelOf",
    "Refused",
    "Searching",
    "SitePlan",
    "Speaker",
    "Topic",
    "bus_component",
    "check_store",
    "command",
    "degraded",
    "healthy",
    "make_cleaner",
    "open_site",
    "prepare_database",
    "prepare_state_dir",
    "run_program",
    "run_site",
    "serve_site",
    "spare_what_stays",
    "store_components",
    "store_of",
    "unhealthy",
]
