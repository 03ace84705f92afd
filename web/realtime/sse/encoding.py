"""Server-sent events, encoded (SEC-53, SITE-99, REL-60) and as Datastar reads them.

Pure functions from text to bytes. A value never forges a field: text is split at CR LF, CR and LF
only and every line gets its own `data:`; ids, event names and selectors refuse those characters
and NUL. Elements and signals follow the event names and data lines of the Datastar protocol.
The other direction, for tests and clients, is `parser.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from datastar_py import consts

from web.realtime.errors import UnsafeField
from web.server import Frame

# SITE-92: what a browser's own EventSource would wait; ours decides by itself.
RETRY_MS = 2000
# SITE-92: a proxy that cuts silent connections does so after 30-60 s.
HEARTBEAT_S = 15.0

_LINE_END = re.compile("\r\n|\r|\n")
_FORBIDDEN = re.compile("[\r\n\0]")
# JSON inside a stream is read by a script that may put it into a page (SEC-62).
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")

ElementPatchMode = consts.ElementPatchMode


def encode_event(
    data: str | Sequence[str], *, event: str = "", event_id: str | None = None,
    retry_ms: int | None = None,
) -> bytes:  # fmt: skip
    """Call this to encode one event; `data` is a text, or lines that hold no line end.

    Raises `UnsafeField` on CR, LF or NUL in `event` or `event_id`.
    """
    lines: list[str] = []
    if event:
        lines.append(f"event: {_safe('event', event)}")
    if event_id is not None:
        lines.append(f"id: {_safe('id', event_id)}")
    if retry_ms is not None:
        lines.append(f"retry: {retry_ms}")
    for text in [data] if isinstance(data, str) else data:
        lines.extend(f"data: {line}" for line in _LINE_END.split(text))
    return ("\n".join(lines) + "\n\n").encode()


def encode_comment(text: str = "") -> bytes:
    """Call this to encode a line clients skip: the heartbeat."""
    return f": {_safe('comment', text)}\n\n".encode()


def encode_retry(milliseconds: int) -> bytes:
    """Call this to tell how long an EventSource waits before it comes back."""
    return f"retry: {milliseconds}\n\n".encode()


def patch_elements(
    elements: str,
    *,
    selector: str | None = None,
    mode: ElementPatchMode = ElementPatchMode.OUTER,
    event_id: str | None = None,
) -> bytes:
    """Call this to encode markup the browser puts into its page.

    `mode` and `selector` are left out where Datastar's default (outer, by id) does.
    Raises `UnsafeField` on CR, LF or NUL in the selector.
    """
    lines: list[str] = []
    if mode is not ElementPatchMode.OUTER:
        lines.append(f"{consts.MODE_DATALINE_LITERAL} {mode.value}")
    if selector is not None:
        lines.append(f"{consts.SELECTOR_DATALINE_LITERAL} {_safe('selector', selector)}")
    if elements:
        lines += _prefixed(consts.ELEMENTS_DATALINE_LITERAL, elements)
    return encode_event(lines, event=consts.EventType.PATCH_ELEMENTS.value, event_id=event_id)


def remove_elements(selector: str) -> bytes:
    """Call this to encode the removal of everything `selector` matches."""
    return patch_elements("", selector=selector, mode=ElementPatchMode.REMOVE)


def patch_signals(
    signals: Mapping[str, object], *, only_if_missing: bool = False, event_id: str | None = None
) -> bytes:
    """Call this to encode new values of signals; None removes one."""
    lines = [f"{consts.ONLY_IF_MISSING_DATALINE_LITERAL} true"] if only_if_missing else []
    lines += _prefixed(consts.SIGNALS_DATALINE_LITERAL, _json(signals))
    return encode_event(lines, event=consts.EventType.PATCH_SIGNALS.value, event_id=event_id)


def joined(events: Iterable[bytes]) -> Frame:
    """Call this to make one frame of several events: they arrive together or not at all."""
    return Frame(b"".join(events))


def _prefixed(word: str, text: str) -> list[str]:
    return [f"{word} {line}" for line in _LINE_END.split(text)]


def _json(value: Mapping[str, object]) -> str:
    text = msgspec.json.encode(value).decode()
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _safe(field: str, value: str) -> str:
    if _FORBIDDEN.search(value):
        raise UnsafeField(field)
    return value


# The comment is for what stands between; a page's script sees events only, and learns from this one
# how long a silence it has to bear (SITE-98).
HEARTBEAT = Frame(
    encode_comment("beat") + encode_event(f"every {HEARTBEAT_S:g}", event="datastar-beat")
)
OPENING = encode_retry(RETRY_MS)
