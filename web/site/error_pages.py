"""The page about an error: what happened in fixed words, what one can do, and the way back."""

from collections.abc import Mapping

from actors.chat import guest_name
from web.routing import paths
from web.routing.services import OptionalPages
from web.server import CsrfTokens
from web.server import ErrorView as Told
from web.site.pages import PAGE_ERROR, member_view, navigation, register_path, sign_in_path
from web.views import (
    ErrorPage,
    ErrorView,
    LocalPath,
    MemberView,
    Renderer,
    Shell,
    UnsafeAttribute,
    csrf_token,
    element_id,
    local_path,
    nonce,
)

_AGAIN = "Load the page you came from again, and try once more."
_TELL = "If it goes on, tell whoever runs this site the request below: the log has the cause."
_COOKIES = "See whether your browser keeps cookies for this site; without one it is a stranger."
# SITE-151: what a visitor can do about each status, the likeliest first.
_ADVICE: Mapping[int, tuple[str, ...]] = {
    400: (_AGAIN, "If you wrote the address yourself, look at it once more."),
    401: ("Sign in; you will be brought back.",),
    402: ("Look at what you pay with, and try again.",),
    403: (_AGAIN, _COOKIES, "Some pages are for other roles than yours; another account may help."),
    404: (
        "Look at the address: is a part of it missing, or too much?",
        "What is shown here can end: an actor, a sign-in, a message.",
    ),
    405: ("Follow a link or use a form of this site; this address takes no other visit.",),
    408: ("Try again on a better line.",),
    409: ("Go back, look at what there is now, and try again.",),
    412: (_AGAIN, _COOKIES),
    413: ("Send less: a message has at most 1,000 characters, a form a few.",),
    414: ("Shorten the address.",),
    415: (_AGAIN,),
    421: ("Open the site by its own name.",),
    422: ("Go back and look at the fields again.",),
    428: (_AGAIN, "A page has to be open and connected for this."),
    429: ("Wait, and then try again: the limit counts for your address as well as for you.",),
    431: ("Delete this site's cookies in your browser, and try again.",),
    500: ("Try again: what failed was restarted.", _TELL),
    503: ("Wait a moment and try again; the site heals by itself.", _TELL),
}
_OTHERWISE = (_AGAIN, _TELL)


class ErrorPages:
    """Renders error pages. They open no stream and ask nobody: they must work at the worst.

    Who is known to be signed in is named, as on any page (SITE-4).
    """

    def __init__(
        self, renderer: Renderer, version: str, csrf: CsrfTokens, there: OptionalPages
    ) -> None:
        self._renderer, self._version, self._csrf = renderer, version, csrf
        self._there = there

    def render(self, told: Told) -> str:
        """Call this with what may be told; returns the whole page."""
        frame = Shell(
            title=told.title,
            page=element_id(PAGE_ERROR),
            nonce=nonce(told.nonce),
            nav=navigation(PAGE_ERROR, self._there),
            viewer_name=_name_of(told),
            version=self._version,
            documents=self._there.documents,
            licence=self._there.licence,
            member=self._member(told),
            sign_in=sign_in_path(),
            register=register_path(),
        )
        error = ErrorView(told.status, told.title, told.message, element_id(told.request_id))
        page = ErrorPage(
            frame,
            error,
            back=_back(told.came_from),
            advice=_ADVICE.get(told.status, _OTHERWISE),
            retry_after_s=told.retry_after_s,
        )
        return self._renderer.error_page(page)

    def _member(self, told: Told) -> MemberView | None:
        if told.signed_in is None or told.visitor_id is None:
            return None
        token = self._csrf.make(told.visitor_id, told.signed_in.reference.hex)
        return member_view(csrf_token(token))


def _back(came_from: str) -> LocalPath | None:
    """Tell where one came from, unless it is home: that way is on the page anyway."""
    try:
        return local_path(came_from) if came_from not in ("", paths.HOME) else None
    except UnsafeAttribute:
        return None  # a browser's words, and none that may stand in a link


def _name_of(told: Told) -> str:
    if told.signed_in is not None:
        return told.signed_in.name
    return "a visitor" if told.visitor_id is None else guest_name(str(told.visitor_id))
