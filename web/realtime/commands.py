"""The closed list of commands an endpoint takes from clients (WEB-32, SEC-56).

A command class is a msgspec struct that refuses unknown fields; its class name is the action's
name. Checked once, at start-up.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from web.realtime.errors import NotACommandClass, ProtocolViolation
from web.realtime.messages import Action


class CommandTable:
    """Turns actions into commands; `events` are names that exist but never come from a client.

    Raises `NotACommandClass` at construction.
    """

    def __init__(
        self,
        commands: Iterable[type[msgspec.Struct]],
        *,
        events: Iterable[type[msgspec.Struct]] = (),
    ) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[msgspec.Struct]] = {}
        self._events = frozenset(event.__name__ for event in events)
        for command in commands:
            name = command.__name__
            if not command.__struct_config__.forbid_unknown_fields:
                raise NotACommandClass(name, "it must set forbid_unknown_fields=True.")
            if name in self._decoders or name in self._events:
                raise NotACommandClass(name, "the name is taken by another command or event.")
            self._decoders[name] = msgspec.json.Decoder(command)

    def __repr__(self) -> str:
        return f"<CommandTable {sorted(self._decoders)}>"

    def parse(self, action: Action) -> msgspec.Struct:
        """Call this to get the command; raises `ProtocolViolation` naming what is wrong."""
        decoder = self._decoders.get(action.name)
        if decoder is None:
            if action.name in self._events:
                raise ProtocolViolation(f"{action.name} is an event, not a command.")
            raise ProtocolViolation(f"There is no command {_shown(action.name)} here.")
        try:
            return decoder.decode(action.fields)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolViolation(f"{action.name} has wrong fields: {error}") from error


def _shown(name: str) -> str:
    """Show a name a client made up; cut, as the error is sent back."""
    return repr(name if len(name) <= 64 else name[:63] + "…")
