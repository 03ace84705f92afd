"""What a site tells of itself to whoever helps: files of text, without secrets (OBS-12).

Rule 1: what a setting holds as a secret is shown nowhere, whatever the setting is called, and none
        of its values anywhere else, should somebody have written one into a name or a line.
Rule 2: a part that fails is told as missing, and takes no other away.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

import trio

from actors.runtime import Secret
from actors.runtime.words.showing import HIDDEN, redact_text
from web.observability.metrics.scraping import Metrics
from web.observability.metrics.serving import told
from web.observability.operating.control.live import TreeCommands
from web.observability.operating.control.serving import Tell
from web.observability.operating.recent import RecentLines
from web.settings import VARIABLES, Settings

# Shorter ones are words of their own, and would be cut out of everything.
_SECRET_CHARS_MIN: Final = 6
_DEPTH_MAX: Final = 12
_TASKS_MAX: Final = 20_000
_PIECE_CHARS: Final = 256 * 1024

Part: TypeAlias = Callable[[], AsyncIterator[str]]


class Cut:
    """Cuts all that the settings hold as secret out of a text."""

    def __init__(self, settings: object) -> None:
        found = {text for secret in _secrets(settings, 0) for text in _forms(secret)}
        # The longest first: an address before the password in it.
        self._values = sorted(
            (text for text in found if len(text) >= _SECRET_CHARS_MIN), key=len, reverse=True
        )

    def __call__(self, name: str, text: str) -> str:
        """Call this with the text of a file; gives it without secrets."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        # What looks like a secret is cut where people write; in JSON it would be none any more, and
        # who made that has looked at its names.
        return text if ".json" in name else redact_text(text)


def settings_text(settings: Settings) -> str:
    """Call this for the settings by the names of their variables, secrets hidden."""
    values = {name: getattr(settings, field) for name, (field, _) in VARIABLES.items()}
    shown = {
        name: HIDDEN if any(True for _ in _secrets(value, 0)) else _plain(value)
        for name, value in sorted(values.items())
    }
    return json.dumps(shown, indent=2, default=str)


def task_lines() -> Iterator[str]:
    """Call this in trio for its tasks as they are, and where each waits; names and places only."""
    root = trio.lowlevel.current_root_task()
    left = [] if root is None else [(0, root)]
    for _ in range(_TASKS_MAX):
        if not left:
            return
        depth, task = left.pop()
        yield f"{'  ' * min(depth, 40)}{task.name}  {_place(task)}"
        below = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        left += [(depth + 1, child) for child in below]
    yield "and more"


class Diagnosis:
    """Tells the files of a running site, piece by piece."""

    def __init__(
        self, settings: Settings, tree: TreeCommands, metrics: Metrics, recent: RecentLines
    ) -> None:
        self._settings, self._tree = settings, tree
        self._metrics, self._recent = metrics, recent
        self._cut = Cut(settings)

    async def tell(self, words: Mapping[str, object], tell: Tell) -> None:
        """Tell rows of a file's name and a piece of its text; and which part failed, and why."""
        for name, part in (
            ("settings.json", self._settings_part),
            ("tree.jsonl", self._tree_part),
            ("tasks.txt", self._tasks_part),
            ("metrics.txt", self._metrics_part),
            ("log.txt", self._log_part),
        ):
            try:
                await self._tell_part(name, part, tell)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise
            except Exception as error:  # noqa: BLE001 - rule 2
                await tell({"file": name, "missing": type(error).__name__})

    async def _tell_part(self, name: str, part: Part, tell: Tell) -> None:
        async for text in part():
            # Before it is taken apart: no secret lies across two pieces.
            safe = self._cut(name, text)
            for at in range(0, len(safe), _PIECE_CHARS):
                await tell({"file": name, "text": safe[at : at + _PIECE_CHARS]})

    async def _settings_part(self) -> AsyncIterator[str]:
        yield settings_text(self._settings)

    async def _tree_part(self) -> AsyncIterator[str]:
        rows: list[str] = []

        async def keep(row: object) -> None:
            rows.append(json.dumps(row, default=str))

        await self._tree.tell({}, keep)
        yield "".join(f"{row}\n" for row in rows)

    async def _tasks_part(self) -> AsyncIterator[str]:
        yield "".join(f"{line}\n" for line in task_lines())

    async def _metrics_part(self) -> AsyncIterator[str]:
        text, _ = await told(self._metrics, "")
        yield text.decode()

    async def _log_part(self) -> AsyncIterator[str]:
        for text in [*self._recent.texts()]:
            yield f"{text}\n"
            await trio.lowlevel.checkpoint()


def _place(task: trio.lowlevel.Task) -> str:
    at: object = task.coro
    frame: FrameType | None = None
    while at is not None:
        here = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None)
        # All of them stand in a trap of trio's; what led there is of interest.
        if here is not None and "/trio/" not in here.f_code.co_filename:
            frame = here
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None)
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def _secrets(value: object, depth: int) -> Iterator[str | bytes]:
    """All that is held as a secret in a value, however deep."""
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _secrets(one, depth + 1)
    elif isinstance(value, (tuple, list, frozenset, set)):
        for one in value:
            yield from _secrets(one, depth + 1)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _secrets(getattr(value, field.name), depth + 1)


def _forms(secret: str | bytes) -> Iterator[str]:
    """How a secret may be written: as it is, as its password alone, in base64 or hexadecimal."""
    if isinstance(secret, bytes):
        yield base64.b64encode(secret).decode().rstrip("=")
        yield base64.urlsafe_b64encode(secret).decode().rstrip("=")
        yield secret.hex()
        try:
            secret = secret.decode()
        except UnicodeDecodeError:
            return
    yield secret
    yield json.dumps(secret)[1:-1]
    try:
        password = urlsplit(secret).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    return str(value)
