"""The frame of every page: title, navigation, who is here, the tab's stream."""

from importlib.metadata import PackageNotFoundError, version

from actors.chat import LOBBY, guest_name
from web import paths
from web.server import RequestState
from web.views import NavLink, Shell, StreamView, element_id, local_path, nonce

# What a stream's page may be called; it decides which panels the stream is sent.
PAGE_HOME = "home"
PAGE_LAB = "lab"


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
