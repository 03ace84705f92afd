"""The frame around every page: title, navigation, connection pill, alert, footer.

View models only. Template: `templates/layout.html`.
"""

from dataclasses import dataclass

from web.views.words import ElementId, LocalPath, Nonce, check_text, element_id, local_path, nonce


@dataclass(frozen=True, slots=True)
class NavLink:
    """One entry of the navigation. Only routes that exist may be offered."""

    path: LocalPath
    text: str
    is_current: bool = False

    def __post_init__(self) -> None:
        local_path(self.path)
        check_text("text", self.text)


@dataclass(frozen=True, slots=True)
class StreamView:
    """What a page tells the server when it opens its stream: which tab, and which room.

    `tab_id` is new for every rendered page. `room` is a name of the closed set of rooms.
    """

    tab_id: ElementId
    room: ElementId | None = None

    def __post_init__(self) -> None:
        element_id(self.tab_id)
        if self.room is not None:
            element_id(self.room)


@dataclass(frozen=True, slots=True)
class Shell:
    """All that the frame shows. `page` becomes the signal `ssePage`.

    A page without `stream` loads no browser runtime and opens no connection.
    """

    title: str
    page: ElementId
    nonce: Nonce
    nav: tuple[NavLink, ...]
    viewer_name: str
    version: str
    stream: StreamView | None = None

    def __post_init__(self) -> None:
        check_text("title", self.title)
        element_id(self.page)
        nonce(self.nonce)
        check_text("viewer_name", self.viewer_name)
        check_text("version", self.version)
