"""What can go wrong on the event bus, one class per thing the caller can do.

They are errors of the store: `StoreMisuse` for a call that must change, and of the rest those
with `is_transient` may go well later.
"""

from collections.abc import Sequence

from actors.persistence.errors import StoreError, StoreMisuse


class BusError(StoreError):
    """Base of what the bus raises for a call that was right."""

    code = "bus_error"


class BusUnavailable(BusError):
    """Raised when the bus cannot be reached, or was lost while answering.

    Whether records in hand were published is not known: publish them again with the same event
    ids, and the inbox of who handles them tells.
    """

    code = "bus_unavailable"
    is_transient = True

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the bus is unavailable: {reason}. Records in hand may be published or not; publish "
            "them again with the same event ids."
        )
        self.reason = reason


class BusRejected(BusError):
    """Raised when the bus does not let us in: a wrong secret, or a right that is missing.

    Waiting does not help. `reason` is the broker's name for it; no secret is told.
    """

    code = "bus_rejected"

    def __init__(self, reason: str, told: str = "") -> None:
        super().__init__(
            told or f"the bus does not let us in ({reason}); look at user, secret and rights"
        )
        self.reason = reason


class BusNotTrusted(BusRejected):
    """Raised when we and the bus have no certificate that the other trusts; nothing was sent.

    `is_ours` tells which: the bus refuses the one that we show, or has one that we do not trust.
    """

    code = "bus_not_trusted"

    def __init__(self, reason: str, *, is_ours: bool) -> None:
        super().__init__(
            reason,
            f"the bus refuses our certificate ({reason}); look at certificate and key"
            if is_ours
            else f"the bus shows a certificate that we do not trust ({reason}); look at the file "
            "of the authority, and at the name by which the bus is called",
        )
        self.is_ours = is_ours


class PublishFailed(BusError):
    """Raised when the bus refuses records; none of this call is acknowledged."""

    code = "publish_failed"

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"nothing was acknowledged on {topic}: {reason}")
        self.topic, self.reason = topic, reason


class UnknownTopic(PublishFailed, LookupError):
    """Raised for a topic that was never declared; nothing was published. Call `declare` first."""

    code = "unknown_topic"

    def __init__(self, topic: str) -> None:
        super().__init__(topic, "there is no such topic; declare it first")


class SubscriptionFailed(BusError):
    """Raised when a subscription cannot begin; nothing was fetched."""

    code = "subscription_failed"

    def __init__(self, topics: Sequence[str], reason: str) -> None:
        super().__init__(f"nothing is fetched of {', '.join(topics)}: {reason}")
        self.topics, self.reason = tuple(topics), reason


class GroupError(StoreMisuse):
    """Raised when a group is not as a call needs it, such as stopped; nothing was changed."""

    code = "group_error"

    def __init__(self, group: str, reason: str) -> None:
        super().__init__(f"group {group} {reason}; nothing was changed")
        self.group, self.reason = group, reason


class UnknownGroup(GroupError, LookupError):
    """Raised for a group that never had a member."""

    code = "unknown_group"

    def __init__(self, group: str) -> None:
        super().__init__(group, "is not known")


class InvalidTopic(StoreMisuse, ValueError):
    """Raised before any I/O for a name that no topic can have; nothing was sent."""

    code = "invalid_topic"

    def __init__(self, value: str, why: str) -> None:
        super().__init__(f"{value[:80]!r} is no topic: {why}; nothing was sent")
        self.value, self.why = value, why


class PartitionsDiffer(StoreMisuse):
    """Raised by `declare` for a topic that has another number of partitions.

    Nothing was changed: with another number the records of a key would change their partition,
    and with it their order.
    """

    code = "partitions_differ"

    def __init__(self, topic: str, wanted: int, found: int) -> None:
        super().__init__(
            f"{topic} has {found} partitions, {wanted} were asked for; nothing was changed"
        )
        self.topic, self.wanted, self.found = topic, wanted, found


class RecordTooLarge(StoreMisuse):
    """Raised before any I/O for a record beyond the limit; nothing was published.

    Counted are key, value and headers. Keep large things elsewhere and publish their address.
    """

    code = "record_too_large"

    def __init__(self, topic: str, size: int, limit: int) -> None:
        super().__init__(
            f"a record of {topic} takes {size} bytes, the limit is {limit}; nothing was published"
        )
        self.topic, self.size, self.limit = topic, size, limit


class BusCodecError(BusError):
    """Raised for a record that cannot be read; it is a dead letter with its raw bytes.

    Raise it in a handler for a value that is not what it should be: trying again mends nothing.
    """

    code = "bus_codec_error"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the record cannot be read: {reason}")
        self.reason = reason
