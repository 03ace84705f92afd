"""Every metric there is, with its labels in their order: the contract with dashboards and alerts.

`docs/reference/metrics.md` is this table for people; a test holds them together, and both against
what a running system tells. A name is changed only by adding another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFIX: Final = "greenroom_"


class MetricKind(StrEnum):
    """How a metric is read: a counter only grows, a gauge is how it is now."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the prefix, and the names of its labels."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    words: str

    @property
    def full_name(self) -> str:
        """Call this for the name that a scraper sees."""
        return PREFIX + self.name


def _all(kind: MetricKind, rows: Mapping[str, str]) -> list[Metric]:
    """Read rows of `name label,label` and what the metric says."""
    found = []
    for head, words in rows.items():
        name, _, labels = head.partition(" ")
        found.append(Metric(name, kind, tuple(labels.split(",")) if labels else (), words))
    return found


_COUNTERS = {
    # the runtime
    "messages_total kind": "Messages handled.",
    "asks_timed_out_total kind": "Asks whose deadline passed, by who was asked.",
    "restarts_total kind": "Restarts of actors by their supervisors.",
    "crashes_total kind": "Incarnations that ended by a crash.",
    # reducers
    "effects_started_total kind,effect": "Effects of reducers that were begun.",
    "effects_failed_total kind,effect": "Effects of reducers that failed.",
    "stream_items_total kind": "Items that streams of effects gave.",
    # the store
    "store_appends_total category,result": "Appends to the event store.",
    "store_conflicts_total category": "Appends that found another version, or a failed condition.",
    "store_loaded_events_total category": "Events read from streams.",
    "store_snapshots_total result": "Snapshots stored, used, or passed over.",
    # outbox and bus
    "outbox_sent_total kind": "Messages of the outbox that were sent.",
    "outbox_failed_total kind": "Attempts to send a message of the outbox that failed.",
    "bus_published_total topic,result": "Records published on the event bus.",
    "bus_handled_total topic,group,result": "Records of the bus that were handled.",
    "bus_codec_errors_total topic,group": "Records of the bus that could not be read.",
    "bus_rebalances_total group": "Times that parts of a topic moved to or from here.",
    # sagas
    "saga_started_total saga": "Sagas begun.",
    "saga_finished_total saga,status": "Sagas that ended, by how.",
    "saga_compensations_total saga,step": "Steps of sagas that were undone.",
    "saga_stale_tokens_total saga": "Replies to a step that came too late to count.",
    # projections
    "projection_applied_total projection": "Events applied to projections.",
    "cache_hits_total projection": "Reads that a cache answered.",
    "cache_misses_total projection": "Reads that the store had to answer.",
    "cache_evictions_total projection": "Documents that a full cache gave up for others.",
    "timers_fired_total": "Durable timers that were told.",
    # guards
    "retry_attempts_total name": "Attempts beyond the first.",
    "retry_exhausted_total name": "Calls that failed at each attempt.",
    "breaker_calls_total name,result": "Calls behind a circuit breaker.",
    "bulkhead_rejected_total name": "Calls that a bulkhead had no room for.",
    "rate_limited_total name": "Requests refused for coming too often.",
    # dead letters
    "dead_letters_added_total kind": "Dead letters: kept in the store, or of messages in memory.",
    "dead_letters_resolved_total kind": "Dead letters that a retry or a person has resolved.",
    "dead_letters_discarded_total kind": "Dead letters that a person has discarded.",
    "spans_lost_total": "Spans pushed out of the last ones before their time, for want of room.",
    # the edge
    "http_requests_total route,status": "Requests answered, by route and class of status.",
    "stream_sent_total transport": "Frames given to streams and sockets.",
    "stream_dropped_total transport": "Frames that a slow reader was not sent.",
    "streams_refused_total transport": "Streams and sockets refused at a limit.",
    "streams_cut_total": "Connections cut off because their reader took nothing.",
    "stream_resyncs_total": "Times that a reader who fell behind was sent everything anew.",
    "ws_messages_total type": "Messages that clients sent on sockets.",
    # traces
    "trace_spans_exported_total": "Spans that a collector of traces has taken.",
    "trace_spans_lost_total reason": "Spans that were to be exported, and were not.",
    # accounts and mail
    "auth_attempts_total method,result": "Tries to sign in.",
    "auth_blocked_total method": "Tries to sign in that were refused unseen, for too many.",
    "log_critical_total": "Log lines of what cannot be by itself: a fault, or an attack.",
    "passkey_counters_fell_total": "Passkeys that told a counter from before: perhaps a copy.",
    "mail_sent_total result": "Mails sent, or given up.",
    "mail_unknown_total": "Mails that may have left before, and went once more.",
}
_GAUGES = {
    "mailbox_depth kind": "Messages that wait in mailboxes.",
    "actors kind": "Actors that are not gone.",
    "effects_running kind": "Effects of reducers under way.",
    "store_oldest_transaction_seconds": "Age of the oldest open transaction that has written.",
    "store_archive_waiting_seconds": "How long the oldest full file of the log waits to be kept.",
    "store_head_position": "Position of the newest event.",
    "pool_connections state": "Connections of the pool to the database.",
    "pool_waiting": "Calls that wait for a connection.",
    "outbox_pending kind": "Messages of the outbox that wait.",
    "outbox_oldest_seconds": "Age of the oldest message that waits in the outbox.",
    "bus_lag_records topic,group": "Records of the bus that a group has not handled.",
    "bus_lag_seconds topic,group": "Age of the oldest of them.",
    "saga_running saga": "Sagas under way.",
    "saga_stuck saga": "Sagas that wait for an operator.",
    "projection_lag_events projection": "Events that a projection has not applied.",
    "projection_lag_seconds projection": "Age of the oldest of them.",
    "projection_events_per_second projection": "How fast a projection passes events.",
    "projection_eta_seconds projection": "When it has passed all, at that pace.",
    "projection_parked projection": "Keys of a projection set aside after an event that failed.",
    "projection_rebuild_ratio projection": "How far a rebuild is, 0 to 1; 1 when none runs.",
    "timers_pending": "Durable timers that are set.",
    "breaker_state name": "0 closed, 1 open, 2 half-open.",
    "bulkhead_in_use name": "Calls inside a bulkhead.",
    "dead_letters status": "Dead letters kept in the store.",
    "dead_letters_fullness_ratio": "How full the table of dead letters is, 0 to 1.",
    "streams_open transport": "Open streams and sockets.",
    "stream_queue_depth transport": "Frames that wait for slow readers.",
    "rare what": "How often what should be rare was, within its minute or hour.",
    "sessions_active": "Sign-ins that have not ended.",
    "mail_queue": "Mails that wait to be sent.",
    "moderation_queue": "Messages that wait for a moderator.",
    "hash_queue": "Passwords that wait to be hashed.",
    "shutdown_left phase": "What is still there of each phase of a stop under way.",
    "shutdown_seconds phase": "How long each phase of a stop under way has taken.",
}
_HISTOGRAMS = {
    "handle_seconds kind": "How long handlers take; of one message in 16.",
    "queue_seconds kind": "How long messages wait in a mailbox; of one message in 16.",
    "reducer_seconds kind": "How long reducers take.",
    "effect_seconds kind,effect": "How long effects of reducers take.",
    "store_append_seconds result": "How long appends to the event store take.",
    "store_append_events category": "Events in one append.",
    "store_load_seconds category": "How long it takes to read a page of a stream.",
    "store_batch_size": "Appends that shared a statement.",
    "pool_acquire_seconds": "How long calls wait for a connection.",
    "bus_publish_seconds topic": "How long it takes to publish records.",
    "bus_handle_seconds topic,group": "How long handlers of the bus take.",
    "saga_step_seconds saga,step": "How long steps of sagas take.",
    "projection_apply_seconds projection": "How long it takes to apply a page of events.",
    "timers_late_seconds": "How much later than due durable timers are told.",
    "http_request_seconds route": "From a request's head to the head of its answer.",
    "loop_lag_seconds": "How late the loop is for whoever comes.",
}

METRICS: Final[Mapping[str, Metric]] = {
    one.name: one
    for one in (
        *_all(MetricKind.COUNTER, _COUNTERS),
        *_all(MetricKind.GAUGE, _GAUGES),
        *_all(MetricKind.HISTOGRAM, _HISTOGRAMS),
    )
}
