"""What every page has: its frame, its answer, and the page that is shown when there is none."""

from importlib.metadata import PackageNotFoundError, version

from quart import Response

from actors.chat import LOBBY, guest_name
from web.routing import paths
from web.server import (
    STREAM_HEAD,
    GzipSum,
    RequestState,
    current_request_state,
    deflated,
)
from web.server import ErrorView as Told
from web.views import (
    ErrorPage,
    ErrorView,
    FilledPage,
    NavLink,
    Renderer,
    Shell,
    StreamView,
    element_id,
    local_path,
    nonce,
)

# What a page calls itself; it decides which panels its stream is sent.
PAGE_HOME = "home"
PAGE_LAB = "lab"
PAGE_ERROR = "error"

HTML = "text/html; charset=utf-8"


def program_version() -> str:
    """Call this once at start to get the version shown in the footer; a clone has none."""
    try:
        return version("greenroom")
    except PackageNotFoundError:
        return "development"


def shell(state: RequestState, title: str, page: str, version_text: str, tab: str | None) -> Shell:
    """Call this to get the frame of a page; without a tab it opens no stream."""
    room = element_id(LOBBY) if page == PAGE_LAB else None
    return Shell(
        title=title,
        page=element_id(page),
        nonce=nonce(state.nonce),
        nav=navigation(page),
        viewer_name=guest_name(str(state.visitor.id)),
        version=version_text,
        stream=None if tab is None else StreamView(element_id(tab), room),
    )


def navigation(page: str) -> tuple[NavLink, ...]:
    """Call this to get the links at the top, the present page marked."""
    return (
        NavLink(local_path(paths.HOME), "Home", is_current=page == PAGE_HOME),
        NavLink(local_path(paths.LAB), "Lab", is_current=page == PAGE_LAB),
    )


def page_response(page: FilledPage) -> Response:
    """Call this to answer a page; it holds a nonce and names, so no cache keeps it (SEC-60).

    Compressed for who takes gzip. Beside what people wrote stands no secret that is the same in two
    answers (SEC-32), so the length tells nobody anything.
    """
    headers = {"cache-control": "no-store", "vary": "accept-encoding"}
    body = page.body()
    if current_request_state().takes_gzip:
        # What all visitors see is compressed once for all; each one's own words stand between, as
        # they are. Only the sum is counted for each.
        total = GzipSum()
        total.add(body)
        body = b"".join([STREAM_HEAD, page.packed(deflated), total.end()])
        headers["content-encoding"] = "gzip"
    return Response(body, content_type=HTML, headers=headers)


class ErrorPages:
    """Renders error pages. They open no stream and name nobody: they must work at the worst."""

    def __init__(self, renderer: Renderer, version: str) -> None:
        self._renderer, self._version = renderer, version

    def render(self, told: Told) -> str:
        """Call this with what may be told; returns the whole page."""
        frame = Shell(
            title=told.title,
            page=element_id(PAGE_ERROR),
            nonce=nonce(told.nonce),
            nav=navigation(PAGE_ERROR),
            viewer_name="a visitor",
            version=self._version,
        )
        error = ErrorView(told.status, told.title, told.message, element_id(told.request_id))
        page = ErrorPage(frame, error, local_path(paths.HOME), "Back to the start")
        return self._renderer.error_page(page)
