"""OpenSearch or Elasticsearch: read models that are found by words (PROJ-13).

Read `words.py` (where a server is, and what can go wrong), `questions.py` and `answers.py` (what is
sent, and what comes back; pure), then `sending.py` and `client.py`. `projections.py` is the port
`ProjectionStore` on it, whose checkpoints another store keeps, and `ReadModelSearch`; `scanning.py`
answers the same questions without a server.
"""

from storage.beside_books import ReadModelLost
from storage.search.client import SearchClient, SearchStatistics, open_search
from storage.search.projections import SearchProjections
from storage.search.scanning import ScanningSearch, TooManyToScan
from storage.search.words import SearchRefused, SearchRejected, SearchSettings

__all__ = [
    "ReadModelLost",
    "ScanningSearch",
    "SearchClient",
    "SearchProjections",
    "SearchRefused",
    "SearchRejected",
    "SearchSettings",
    "SearchStatistics",
    "TooManyToScan",
    "open_search",
]
