"""What every page has: its frame, and its answer."""

import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

from quart import Response

from actors.accounts import Role
from actors.chat import LOBBY, RoomName, guest_name
from web.routing import paths
from web.routing.services import OptionalPages, Services
from web.server import (
    STREAM_HEAD,
    GzipSum,
    RequestState,
    WholeResponse,
    current_request_state,
    deflated,
    gzipped,
)
from web.views import (
    CsrfToken,
    ElementId,
    FilledPage,
    FrameWords,
    LocalPath,
    MemberView,
    NavLink,
    QueueLink,
    Shell,
    StreamView,
    UnsafeAttribute,
    element_id,
    local_path,
    mark_of,
    nonce,
    origin,
)

# What a page calls itself; it decides which panels its stream is sent.
PAGE_HOME = "home"
PAGE_LAB = "lab"
PAGE_FAILURES = "failures"
PAGE_DOCS = "docs"
PAGE_WORK = "work"
PAGE_ERROR = "error"
PAGE_LOGIN = "login"
PAGE_REGISTER = "register"
PAGE_PROTECTED = "protected"
PAGE_ACCOUNT = "account"
PAGE_MODERATION = "moderation"
PAGE_AUDIT = "audit"
PAGE_OPERATORS = "operators"
PAGE_OVERVIEW = "overview"
PAGE_DEMO = "demo"
PAGE_MAIL = "mail"

# Where a clone says which version it is of; an installed package says it itself.
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_VERSION = re.compile(r'^version = "([^"]+)"', re.MULTILINE)

HTML = "text/html; charset=utf-8"
_AS_PAGE = (
    ("Cache-Control", "no-store"), ("Vary", "accept-encoding"), ("Content-Type", HTML)
)  # fmt: skip
_AS_PACKED_PAGE = (*_AS_PAGE, ("Content-Encoding", "gzip"))
# Pages, and those that one is led back to; what a visitor made up is soon forgotten.
_LINKS_KEPT = 256

# What people send each other links to.
_SHOWN_ELSEWHERE = frozenset({PAGE_HOME, PAGE_LAB, PAGE_FAILURES, PAGE_DOCS, PAGE_WORK})
# Who signs in from there is back there.
_BACK_TO = {PAGE_HOME: paths.HOME, PAGE_LAB: paths.LAB, PAGE_FAILURES: paths.LAB_FAILURES}


def program_version() -> str:
    """Call this once at start to get the version shown in the footer; a clone says it is one."""
    try:
        return version("greenroom")
    except PackageNotFoundError:
        found = (
            _VERSION.search(_PROJECT.read_text(encoding="utf-8")) if _PROJECT.is_file() else None
        )
        return "from a clone" if found is None else f"{found[1]}, from a clone"


def shell(
    services: Services,
    state: RequestState,
    title: str,
    page: str,
    tab: str | None = None,
    *,
    back: str | None = None,
    room: RoomName = LOBBY,
) -> Shell:
    """Call this to get the frame of a page; without a tab it opens no stream.

    Who signs in from there comes `back`; home and the lab say so by themselves. `room` is the one
    that a page with a chat shows.
    """
    shown = element_id(room) if page in (PAGE_LAB, PAGE_WORK) else None
    signed_in, back = state.signed_in, back or _BACK_TO.get(page)
    return Shell(
        title=title,
        page=element_id(page),
        nonce=nonce(state.nonce),
        nav=navigation(page, services.pages),
        viewer_name=viewer_name(state),
        version=services.version,
        documents=services.pages.documents,
        licence=services.pages.licence,
        origin=origin(services.origin) if services.origin and page in _SHOWN_ELSEWHERE else None,
        stream=None if tab is None else StreamView(element_id(tab), shown, viewer_mark(state)),
        member=None if signed_in is None else member_view(services.csrf_of(state)),
        queue=QueueLink(services.waiting_count() or 0) if is_moderator(state) else None,
        sign_in=sign_in_path(back) if signed_in is None else None,
        register=register_path(back) if signed_in is None else None,
    )


def is_moderator(state: RequestState) -> bool:
    """Tell whether the frame shows somebody how many messages wait for review."""
    return state.signed_in is not None and state.signed_in.role == Role.MODERATOR


def frame_words(services: Services, state: RequestState, tab: str) -> FrameWords:
    """Call this for what `shell` shows to nobody else, where all the rest of it is known."""
    signed_in = state.signed_in
    return FrameWords(
        nonce(state.nonce),
        viewer_name(state),
        element_id(tab),
        viewer_mark(state),
        None if signed_in is None else services.csrf_of(state),
    )


def member_view(csrf: CsrfToken) -> MemberView:
    """Call this for what the frame offers to who is signed in."""
    return MemberView(csrf, local_path(paths.ACCOUNT))


def viewer_name(state: RequestState) -> str:
    """Call this for the name under which somebody is here: a member's, or a guest's own."""
    if state.signed_in is not None:
        return state.signed_in.name
    return guest_name(state.visitor.text)


def viewer_mark(state: RequestState) -> ElementId:
    """Call this for what names a viewer on their pages: another one after a sign-in or its end.

    Of somebody with another role too: what a page offers depends on it (SITE-49).
    """
    role = "" if state.signed_in is None else state.signed_in.role
    return mark_of("viewer", state.visitor.text, role)


def sign_in_path(back: str | None = None) -> LocalPath:
    """Call this for the way to the sign-in, and back to a page of this site."""
    return _and_back(paths.LOGIN, back)


def register_path(back: str | None = None) -> LocalPath:
    """Call this for the way to the registration, and back to a page of this site."""
    return _and_back(paths.REGISTER, back)


def link_path(back: str | None = None) -> LocalPath:
    """Call this for the way to a link that signs in, and back to a page of this site."""
    return _and_back(paths.LOGIN_LINK, back)


@lru_cache(_LINKS_KEPT)
def _and_back(path: str, back: str | None) -> LocalPath:
    if back is not None:
        try:
            return local_path(f"{path}?next={quote(back, safe='')}")
        except UnsafeAttribute:
            # Longer than any address of ours, and three times as long when it is written here:
            # who asks for such a page is led where a sign-in leads by itself.
            pass
    return local_path(path)


@lru_cache(_LINKS_KEPT)
def navigation(page: str, there: OptionalPages) -> tuple[NavLink, ...]:
    """Call this to get the links at the top, the present page marked."""
    links = [
        NavLink(local_path(paths.HOME), "Home", is_current=page == PAGE_HOME),
        NavLink(local_path(paths.LAB), "Lab", is_current=page in (PAGE_LAB, PAGE_FAILURES)),
        NavLink(local_path(paths.WORK), "Work", is_current=page == PAGE_WORK),
    ]
    if there.documents is not None:
        links.append(NavLink(there.documents, "Docs", is_current=page == PAGE_DOCS))
    return tuple(links)


def page_response(page: FilledPage) -> Response:
    """Call this to answer a page; it holds a nonce and names, so no cache keeps it (SEC-60).

    Compressed for who takes gzip. Beside what people wrote stands no secret that is the same in two
    answers (SEC-32), so the length tells nobody anything.
    """
    body = page.body()
    if not current_request_state().takes_gzip:
        return WholeResponse(body, _AS_PAGE)
    # What all visitors see is compressed once for all; each one's own words stand between, as they
    # are. Only the sum is counted for each.
    total = GzipSum()
    total.add(body)
    body = b"".join([STREAM_HEAD, page.packed(deflated), total.end()])
    return WholeResponse(body, _AS_PACKED_PAGE)


def form_response(html: str, status: int = 200, **more: str) -> Response:
    """Call this to answer a page that is made for one visitor; otherwise as `page_response`.

    `more` are headers, their names with `_` for `-`.
    """
    headers = {"cache-control": "no-store", "vary": "accept-encoding"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    body = html.encode()
    if current_request_state().takes_gzip:
        body = gzipped(body)
        headers["content-encoding"] = "gzip"
    return Response(body, status=status, content_type=HTML, headers=headers)
