"""The event bus: records between processes, at least once, in order per key.

Read in this order; each file needs only those above it:

- `errors`: what can go wrong, by what the caller does about it;
- `words`: topics, records, groups, offsets, and how a subscription behaves;
- `port`: `EventBus`, and what an engine gives a subscription to stand on;
- `sharing`: who of a group gets which partition, and when a record is tried again;
- `handling`: one record: tried, put aside, or made a dead letter, and put back;
- `reading`: one partition, from its offset on;
- `subscription`: a member of a group, from joining to leaving, and its actor;
- `relaying`: from the outbox to the bus, also as CloudEvents;
- `of_log`: the whole log on the bus, and followed there.

The engines stand in `storage/bus`. The bus is never the truth: decisions read the log.
"""

from actors.persistence.bus.errors import (
    BusCodecError,
    BusError,
    BusNotTrusted,
    BusRejected,
    BusUnavailable,
    GroupError,
    InvalidTopic,
    PartitionsDiffer,
    PublishFailed,
    RecordTooLarge,
    SubscriptionFailed,
    UnknownGroup,
    UnknownTopic,
)
from actors.persistence.bus.handling import check_whole, put_back
from actors.persistence.bus.of_log import (
    AskPublished,
    HeardLog,
    LogListener,
    LogPublisher,
    OwnPlace,
    PublishingPlace,
    SharedPlace,
)
from actors.persistence.bus.port import (
    HEARTBEAT_S,
    LEASE_S,
    Assignment,
    Engine,
    EventBus,
    Handler,
    HandlerInTransaction,
    Held,
    Member,
    Parking,
    PutsBack,
)
from actors.persistence.bus.relaying import CloudEvents, bus_message, publisher
from actors.persistence.bus.subscription import (
    Subscription,
    SubscriptionActor,
    SubscriptionStats,
)
from actors.persistence.bus.words import (
    DEAD,
    RECORD_BYTES_MAX,
    RETRY,
    BusHealth,
    BusState,
    Goal,
    GroupInfo,
    Guard,
    OnFailure,
    Part,
    PartLag,
    RawRecord,
    Received,
    Record,
    StartAt,
    SubscribeOptions,
    TopicInfo,
    partition_for,
    read_record,
)

__all__ = [
    "DEAD",
    "HEARTBEAT_S",
    "LEASE_S",
    "RECORD_BYTES_MAX",
    "RETRY",
    "AskPublished",
    "Assignment",
    "BusCodecError",
    "BusError",
    "BusHealth",
    "BusNotTrusted",
    "BusRejected",
    "BusState",
    "BusUnavailable",
    "CloudEvents",
    "Engine",
    "EventBus",
    "Goal",
    "GroupError",
    "GroupInfo",
    "Guard",
    "Handler",
    "HandlerInTransaction",
    "HeardLog",
    "Held",
    "InvalidTopic",
    "LogListener",
    "LogPublisher",
    "Member",
    "OnFailure",
    "OwnPlace",
    "Parking",
    "Part",
    "PartLag",
    "PartitionsDiffer",
    "PublishFailed",
    "PublishingPlace",
    "PutsBack",
    "RawRecord",
    "Received",
    "Record",
    "RecordTooLarge",
    "SharedPlace",
    "StartAt",
    "SubscribeOptions",
    "Subscription",
    "SubscriptionActor",
    "SubscriptionFailed",
    "SubscriptionStats",
    "TopicInfo",
    "UnknownGroup",
    "UnknownTopic",
    "bus_message",
    "check_whole",
    "partition_for",
    "publisher",
    "put_back",
    "read_record",
]
