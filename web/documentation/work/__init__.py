"""The mechanism pages under `/work`: how three things of this site are done, and what holds them.

Read in this order:

- `mechanisms`: what the pages say is data in `content/`, checked when the site starts
- `presenting`: from there to what is shown; the drawing is made of lanes and arrows
- `routes`: each page shows its panel live, by the template and the stream of the lab
"""

from web.documentation.work.mechanisms import BadContent, Mechanism, load_mechanisms
from web.documentation.work.routes import WorkStreams, work_routes

__all__ = ["BadContent", "Mechanism", "WorkStreams", "load_mechanisms", "work_routes"]
