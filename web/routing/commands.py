"""What every command of a page has in common: how it is read, and how it is refused.

A command comes as JSON from the page's script or as a plain form without one. It answers a
bare status (SITE-101); a refusal is told to its tab's stream as well, so that the page can
say it in words.
"""

from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import msgspec
from quart import g, has_request_context, request

from actors.accounts import TabId
from web.api import why_unread
from web.api.reading import raw_body
from web.realtime import StreamKey, Streams, joined, patch_signals
from web.routing.errors import InvalidForm, InvalidInput, Refused
from web.routing.forms import CSRF, FORM, refuse_unknown
from web.server import ErrorRow, RequestState, current_request_state

C = TypeVar("C", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a command comes from: which feature's, which tab's, with or without script."""

    source: str
    tab: TabId
    is_form: bool


async def read_command(kind: type[C], source: str) -> tuple[C, Origin]:
    """Call this to read a command's fields; known ones are strict.

    Of a script's, which are the page's signals, unknown ones are ignored (SITE-97); of a plain
    form's they are refused, as of every form (SEC-114). The struct has a field encoded as
    `sseTabId`. Raises `InvalidInput`, for a form `InvalidForm`.
    """
    is_form = request.mimetype == FORM
    refused: type[Refused] = InvalidForm if is_form else InvalidInput
    try:
        if is_form:
            form = await request.form
            refuse_unknown(form, _fields_of(kind))
            command = msgspec.convert(dict(form), kind)
        else:
            data = await raw_body()
            why = why_unread(data)
            if why:
                raise refused(f"the command cannot be read: {why}")
            command = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refused(f"the command cannot be read: {error}") from error
    origin = Origin(source, parse_tab(getattr(command, "tab", "")), is_form)
    g.command_origin = origin
    state = current_request_state()
    if state.on_tab is not None:
        state.on_tab(origin.tab)
    return command, origin


def _fields_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset((*(one.encode_name for one in msgspec.structs.fields(kind)), CSRF))


def answer_by_status_only() -> None:
    """Call this for a command whose own control tells why it was refused: no banner then."""
    g.pop("command_origin", None)


def say_instead(words: str, *, counts_down: bool = True) -> None:
    """Call this before a command is refused to tell its page more than the row of its error does.

    For words of the feature's own with facts in them (seconds, lengths), never what was sent.
    Without `counts_down` the page counts no seconds: when it may be sent again nobody knows.
    """
    g.command_words, g.command_counts_down = words, counts_down


def parse_tab(text: str) -> TabId:
    """Call this to check a tab id: a UUID as this site writes it; raises `InvalidInput`."""
    try:
        is_own_form = str(UUID(text)) == text
    except ValueError:
        is_own_form = False
    if not is_own_form:
        raise InvalidInput("a tab id is a UUID made when the page was rendered")
    return TabId(text)


class RefusalTeller:
    """Tells a tab by its stream why its command was refused."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def __call__(self, state: RequestState, row: ErrorRow) -> None:
        """Called by the application for every error it answers."""
        origin = g.get("command_origin") if has_request_context() else None
        if not isinstance(origin, Origin) or origin.is_form:
            return
        wait = row.retry_after_s if g.get("command_counts_down", True) else None
        signals = {
            "transportErrorSource": origin.source,
            "transportErrorKind": row.kind,
            "transportErrorTitle": row.title,
            "transportErrorMessage": g.get("command_words") or row.text,
            "transportErrorStatus": row.status,
            "transportErrorRetryAfter": wait or 0,
            "transportErrorRetrying": False,
        }
        key = StreamKey(state.visitor.id, origin.tab)
        self._streams.send_to(key, "transport-error", joined([patch_signals(signals)]))
