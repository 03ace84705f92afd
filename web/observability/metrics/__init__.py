"""What a program tells of itself in figures, for Prometheus and whoever reads its format (OBS-1).

Read `words.py`: the table of all metrics; `scraping.py`: how figures are gathered from those who
keep them; `collectors.py` and `stored.py`: whose they are; `writing.py`: the text; `serving.py`:
who is given it. What counts knows nothing of all this: `actors/runtime/words/tallies.py`.
"""

from web.observability.metrics.scraping import Collector, Metrics, Scrape
from web.observability.metrics.words import METRICS, PREFIX, Metric, MetricKind

__all__ = ["METRICS", "PREFIX", "Collector", "Metric", "MetricKind", "Metrics", "Scrape"]
