"""How a message to another node can end: each error is the end of an ask, and says what happened.

A tell that ends so is a dead letter. Those of the link itself (`NoLink`, `MessageTooLarge`,
`NotRemote`) stand in `link/words.py`.
"""

from __future__ import annotations

from actors.runtime import AskError


def _name(message_type: type | None) -> str:
    return "a message" if message_type is None else message_type.__qualname__


class UnknownMessage(AskError):
    """The node that owns the actor runs a program without this message; nothing was handled."""

    def __init__(self, path: str, message_type: type | None, name: str, node: str) -> None:
        super().__init__(
            path,
            message_type,
            f"node {node} does not know the message {name!r}; {path} did not get it. "
            "It runs another release: send what both know.",
        )
        self.name, self.node = name, node


class NodeGone(AskError):
    """The node that owned the actor is gone, or nobody hears it.

    With `maybe_handled` the message was handed to the link before that was known. The shard is
    another's within the lease: ask again then.
    """

    def __init__(
        self, path: str, message_type: type | None, node: str, *, maybe_handled: bool
    ) -> None:
        what = "it may have been handled" if maybe_handled else "it was not handled"
        super().__init__(
            path,
            message_type,
            f"node {node}, which owns {path}, is gone; {_name(message_type)} got no reply, {what}. "
            "Ask again when another node owns it.",
        )
        self.node, self.maybe_handled = node, maybe_handled


class NoOwner(AskError):
    """Nobody owns the shard of the actor, or nobody offers the service; nothing was handled.

    `shard` is None for a service. It ends when a node claims the shard: within a lease, mostly.
    """

    def __init__(self, path: str, message_type: type | None, shard: int | None) -> None:
        whose = f"nobody offers {path}" if shard is None else f"nobody owns shard {shard} of {path}"
        super().__init__(
            path,
            message_type,
            f"{whose}; {_name(message_type)} was not handled. Ask again later.",
        )
        self.shard = shard


class PeerOverloaded(AskError):
    """So much is under way to the node, or waits for the shard, that no more was sent.

    Nothing was handled. Others are reached as ever; ask again later, or ask for less.
    """

    def __init__(self, path: str, message_type: type | None, node: str) -> None:
        super().__init__(
            path,
            message_type,
            f"too much is under way to {node}; {_name(message_type)} for {path} was not sent. "
            "Ask again later.",
        )
        self.node = node


class RemoteError(Exception):
    """An error that was raised on another node, as text: the `error` of an `ActorCrashed`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.text = kind, text
