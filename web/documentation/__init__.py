"""The project's own documents, shown at `/docs`: Markdown in, pages, a map and a search out.

Read in this order:

- `markdown`: one text to HTML that can hold nothing but what we let through, with anchors
- `library`: the folder `docs/`, the reading paths, the search; pages are made when asked for
- `routes`: the hub, the pages
- `work/`: three mechanisms of the site, told and drawn, with their panels beside the words
"""

from web.documentation.library import (
    READING_PATHS,
    Documents,
    Library,
    ReadingPath,
    ReadingPathBroken,
    maybe_documents,
    place_of_requirement,
)
from web.documentation.presenting import doorways
from web.documentation.routes import document_routes, optional_pages

__all__ = [
    "READING_PATHS",
    "Documents",
    "Library",
    "ReadingPath",
    "ReadingPathBroken",
    "document_routes",
    "doorways",
    "maybe_documents",
    "optional_pages",
    "place_of_requirement",
]
