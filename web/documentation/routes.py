"""The routes of the documents: the hub, the search, the pages, and all of it as plain text."""

from quart import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as Redirect

from web.documentation.library import (
    LICENCE_NAME,
    QUERY_LENGTH_MAX,
    RESULTS_MAX,
    Documents,
    Library,
    address,
)
from web.documentation.plain import MARKDOWN, list_for_readers, markdown_of, maybe_page
from web.documentation.presenting import DocumentViews, found_view
from web.routing import paths
from web.routing.errors import DocsNotInstalled, InvalidInput, NoSuchThing
from web.routing.services import OptionalPages, Services
from web.server import current_request_state
from web.site.pages import PAGE_DOCS, form_response, page_response, shell
from web.views import HubPage, SearchView, element_id, local_path

# The same for everybody, and another with the next release only.
_KEPT = "public, max-age=3600"


def optional_pages(documents: Documents | None) -> OptionalPages:
    """Call this for what the frame of every page may offer."""
    if documents is None:
        return OptionalPages()
    licence = local_path(address(LICENCE_NAME)) if documents.has_licence else None
    return OptionalPages(local_path(paths.DOCS), licence)


def document_routes(services: Services, documents: Documents | None) -> Blueprint:
    """Call this to get the routes; without documents each of them says so."""
    routes = Blueprint("documents", __name__)
    kept: list[DocumentViews] = []

    async def views() -> DocumentViews:
        if documents is None:
            raise DocsNotInstalled
        library = await documents.library()
        if not kept:
            kept.append(DocumentViews(library))
        return kept[0]

    # A search has an address of its own; what was linked to before it had one still finds.
    @routes.get(paths.DOCS)
    @routes.get(paths.DOCS_SEARCH)
    async def hub() -> Response:
        shown, asked = await views(), request.args.get("q", "").strip()
        if len(asked) > QUERY_LENGTH_MAX:
            raise InvalidInput(f"a search has at most {QUERY_LENGTH_MAX} characters")
        title = "Documents" if not asked else "Search the documents"
        frame = shell(services, current_request_state(), title, PAGE_DOCS, back=paths.DOCS)
        search = _search(shown.library, asked) if asked else None
        page = HubPage(frame, shown.paths(), shown.folders(), search)
        return form_response(services.renderer.documents_hub(page))

    @routes.get(paths.LLMS)
    async def list_of_all() -> Response:
        shown = await views()
        text = list_for_readers(shown.library, services.version, services.origin)
        return _plain(text, "text/plain; charset=utf-8")

    @routes.get(paths.DOCS_PAGE)
    async def page(name: str) -> Response | Redirect:
        shown = await views()
        if as_text := maybe_page(shown.library, name):
            return _plain(markdown_of(as_text), MARKDOWN)
        if name not in shown.library.pages:
            return redirect(_meant(shown.library, name), 308)
        state, place = current_request_state(), address(name)
        title = shown.library.pages[name].title
        frame = shell(services, state, title, PAGE_DOCS, back=place)
        return page_response(services.renderer.filled.document(await shown.page(name, frame)))

    return routes


def _plain(text: str, content_type: str) -> Response:
    return Response(text, content_type=content_type, headers={"cache-control": _KEPT})


def _meant(library: Library, name: str) -> str:
    """Find where a link leads that names no page: to a folder, or to the map."""
    if any(name.strip("/") == folder for folder, _ in library.folders()):
        if name.strip("/") in library.pages:  # a folder with a page of its name
            return address(name.strip("/"))
        return f"{paths.DOCS}#{element_id(name.strip('/').replace('/', '-'))}"
    if name == "README.md":
        return paths.DOCS
    raise NoSuchThing(name)


def _search(library: Library, asked: str) -> SearchView:
    found = library.search(asked)
    shown = tuple(found_view(one) for one in found[:RESULTS_MAX])
    return SearchView(asked, shown, is_cut=len(found) > RESULTS_MAX)
