"""The room actor: one per room, through which every post of that room passes, in one line.

Posts that wait are stored together, each as if it had come alone behind those before it.

Rule 1: an event is published only after it is stored, so nobody sees what could be lost.
Rule 2: a store that is away is an answer, not a crash: drafts stay with their authors.
Rule 3: a room that starts says so (`RoomResumed`), because an incarnation before it may have
stored an event and died before publishing it. Also the first one of its actor: a supervisor
that was itself restarted gives the room a new actor, which counts from 1 again.
Rule 4: it says so as well when an answer of the store was lost and its event may be stored all the
same: nobody else would show it before the next one.
Rule 5: what other processes store in the room is told here too, once and in order (`Stored`). What
only some may see is not told one by one: then the readers read again.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

import trio

from actors.chat import policy
from actors.chat.chat_log import (
    HISTORY_LIMIT,
    ChatLog,
    ChatLogUnavailable,
    PostRefused,
    PostVerdict,
    UnknownRoom,
)
from actors.chat.moderation import Decided, Decision, ModerationOutcome, Verdict
from actors.chat.newest import NewestCache, NewestWindow
from actors.chat.words import (
    LOBBY,
    ROOM_NAMES,
    Author,
    AuthorId,
    Draft,
    History,
    Message,
    Posted,
    PostOutcome,
    Repeated,
    RoomName,
    Status,
    Viewer,
)
from actors.persistence import InvalidField
from actors.reducers import Environment
from actors.runtime import Actor, Ask, Batch, NoProc, Ref, Taken, current_context, message, span

# With so many posts a commit is shared well enough, and a post that comes meanwhile waits for some
# 30 ms of theirs. They are all that a crash of the room leaves in doubt.
POSTS_AT_ONCE_MAX = 64

# Each is some 100 bytes; of a room with more the store is asked again now and then.
MEMBERS_KEPT_MAX = 10_000
# Who is known to be a member is one for so long: a page that loads asks some three times at once,
# and a membership that was taken away, in whatever process, ends soon.
MEMBER_KNOWN_S = 5.0

# A store that lost an answer is asked so long after whether it is back. Who posts again hears of it
# at once; this is for the readers, when nobody does.
SETTLED_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class ChatEnvironment(Environment):
    """What a room needs from outside: clock, ids, the stored truth, and the posting limits.

    `newest` is where it keeps its newest messages for those who show them.
    """

    log: ChatLog
    posts_per_author_max: int = policy.POSTS_PER_AUTHOR_MAX
    posts_per_address_max: int = policy.POSTS_PER_ADDRESS_MAX
    newest: NewestCache = field(default_factory=NewestCache)
    waiting_per_author_max: int = policy.WAITING_PER_AUTHOR_MAX
    waiting_per_address_max: int = policy.WAITING_PER_ADDRESS_MAX


@dataclass(frozen=True, slots=True)
class MessagePosted:
    """Published on the room's topic when event `n` has stored a message, or shows it to all.

    Of a message that waited the second comes when a moderator approved it, with its old `seq`.
    `correlation_id` is what was stored with an event of another process; here it is its context's.
    """

    message: Message
    n: int
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class MessageWithdrawn:
    """Published on the room's topic when event `n` has taken a message away.

    `reason` is for its `author` and nobody else.
    """

    room: RoomName
    id: UUID
    n: int
    author: AuthorId | None = None
    reason: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RoomResumed:
    """Published on the room's topic by a room that starts: read its history again."""

    room: RoomName


@dataclass(frozen=True, slots=True)
class RoomForgot:
    """Published on the room's topic when messages, or texts of them, went without an event.

    By their age, or with their author: read its history again, whatever its number.
    """

    room: RoomName


RoomEvent = MessagePosted | MessageWithdrawn | RoomResumed | RoomForgot


@dataclass(frozen=True, slots=True)
class NotStored:
    """The store did not answer; the post is stored wholly or not at all. Post it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The store does not take this post, however often it is sent; nothing was stored."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotAMember:
    """The room has members, and who asked is none of them; nothing was done. Join it first."""


@message
class Post(Ask[PostOutcome | NotStored | NotTaken | NotAMember]):
    """Asks the room to store a parsed body and publish it. Repeats of `client_id` are safe.

    `address_key` names the client's address for the limit of those not signed in. `member_id` is
    the account in whose name somebody is here, also when they post as the demo user.
    """

    author: Author
    body: str = field(repr=False)
    client_id: str
    address_key: str | None = None
    member_id: UUID | None = None


@message
class Join(Ask[bool | NotStored | NotAMember]):
    """Asks the room to make an account a member; False when it was one, `NotAMember` for none."""

    user_id: UUID


@message
class IsMember(Ask[bool | NotStored]):
    """Asks the room whether an account may read it and post there; of the Lobby all may."""

    user_id: UUID


@message
class Moderate(Ask[ModerationOutcome | NotStored]):
    """Asks the room to decide about a message of it that waits for review."""

    message_id: UUID
    reviewer_id: UUID
    reviewer_session: str | None
    decision: Decision
    reason: str = field(default="", repr=False)


@message
class ReadHistory(Ask[History | NotStored]):
    """Asks the room for the newest messages a viewer may see."""

    viewer: Viewer
    before: int | None = None
    limit: int = HISTORY_LIMIT


@message
class ForgetNewest:
    """Tells the room that messages, or texts of them, went without an event: read them again."""


@message
class RenewNewest:
    """Tells the room that its newest messages are looked at, and will soon be too old for it."""


@message
class Stored:
    """Tells the room that its last event is `n`, whoever stored it: the readers are to know it."""

    n: int


@message
class Settle:
    """Posts may be stored that were never published; tell the readers once the store answers."""


@message
class CrashRoom:
    """Makes the room crash on purpose, for the lab; `because` stands in the crash report."""

    because: str


RoomMessage: TypeAlias = (
    Post
    | Join
    | IsMember
    | Moderate
    | ReadHistory
    | ForgetNewest
    | RenewNewest
    | Stored
    | CrashRoom
)


class CrashedOnPurpose(Exception):
    """Raised by a room that was told to crash. It lost nothing: its supervisor restarts it."""


def topic_of(room: RoomName) -> str:
    """Call this to get the topic on which a room publishes its events."""
    return f"room:{room.lower()}"


class RoomActor(Actor[RoomMessage | Settle]):
    """Serialises the posts of one room and publishes what was stored.

    Start it with the name of a room that `ChatLog.ensure_rooms` has made. It keeps nothing
    that the store does not know, so a restart needs no reading; and what it keeps of the newest
    messages only for a moment, for others may change them.
    """

    batch_max = POSTS_AT_ONCE_MAX

    def __init__(self, name: RoomName, environment: ChatEnvironment) -> None:
        self.name, self.environment = name, environment
        self.post_count = 0
        # Members, and when the store has said so.
        self._members: dict[UUID, float] = {}
        # The highest number of a message that the readers were told of.
        self._told_seq = 0
        # The last event that the readers were told of. None before the first: what they have read
        # when the room started is not known here.
        self._told_n: int | None = None

    def on_start(self) -> None:
        """Begin at once, without asking the store, and tell the readers."""
        self._forget_newest()  # An incarnation before this one may have left its own.
        self._publish(RoomResumed(self.name))

    async def on_post(self, posts: Batch[Post]) -> None:
        """Store the posts that wait, in one transaction; then publish each and answer it."""
        drafts: list[Draft] = []
        drafted: list[Taken[Post]] = []
        for post in posts:
            if (refusal := await self._refusal(post.message)) is not None:
                post.reply(refusal)
                continue
            try:
                with post as message:
                    drafts.append(self._draft(message))
                drafted.append(post)
            except InvalidField as error:
                # No store could keep it; the others shall not have to do with that.
                post.reply(NotTaken(str(error)))
        with span("store.append", stream=f"room-{self.name}", events=len(drafts)):
            verdicts = await self.environment.log.post_all(drafts)
        numbers = [verdict.n for verdict in verdicts if isinstance(verdict, Posted)]
        if numbers:
            await self._tell_until(min(numbers) - 1)
        for post, verdict in zip(drafted, verdicts, strict=True):
            with post:
                post.reply(self._publish_posted(verdict))

    async def on_join(self, message: Join) -> bool | NotStored | NotAMember:
        """Make a member, once."""
        try:
            is_new = await self.environment.log.join(self.name, message.user_id)
        except ChatLogUnavailable as error:
            return NotStored(str(error))
        except UnknownRoom:
            raise
        except LookupError:
            return NotAMember()  # there is no such account any more
        self._remember(message.user_id)
        return is_new

    async def on_is_member(self, message: IsMember) -> bool | NotStored:
        """Answer from what is known, or ask the store."""
        known_at = self._members.get(message.user_id, -math.inf)
        if self.name == LOBBY or trio.current_time() - known_at < MEMBER_KNOWN_S:
            return True
        try:
            is_one = await self.environment.log.is_member(self.name, message.user_id)
        except ChatLogUnavailable as error:
            return NotStored(str(error))
        if is_one:
            self._remember(message.user_id)
        else:
            self._members.pop(message.user_id, None)
        return is_one

    async def on_moderate(self, message: Moderate) -> ModerationOutcome | NotStored:
        """Store the decision, then tell the readers."""
        env = self.environment
        verdict = Verdict(
            message_id=message.message_id,
            event_id=env.ids.new_id(),
            reviewer_id=message.reviewer_id,
            reviewer_session=message.reviewer_session,
            decision=message.decision,
            reason=message.reason,
            decided_at=env.clock.now(),
            metadata=_metadata(),
        )
        self._forget_newest()  # Whatever becomes of it: it may be stored.
        try:
            outcome = await env.log.moderate(verdict)
        except ChatLogUnavailable as error:
            self._settle_later()
            return NotStored(str(error))
        if isinstance(outcome, Decided):
            decided, n = outcome.message, outcome.n
            await self._tell_until(n - 1)
            self._told_n = max(self._told_n or 0, n)
            if message.decision is Decision.APPROVE:
                self._publish(MessagePosted(decided, n))
            else:
                author = policy.author_id(decided)
                self._publish(MessageWithdrawn(self.name, decided.id, n, author, outcome.reason))
        return outcome

    async def on_read_history(self, message: ReadHistory) -> History | NotStored:
        """Answer from what is kept, or read the store: either way the answer is the same."""
        try:
            if message.before is None and not message.viewer.is_moderator:
                newest = await self._fresh_newest()
                if (page := newest.history(message.viewer, message.limit)) is not None:
                    return page
            return await self.environment.log.history(
                self.name, message.viewer, before=message.before, limit=message.limit
            )
        except ChatLogUnavailable as error:
            return NotStored(str(error))

    def on_forget_newest(self, _: ForgetNewest) -> None:
        """Show nothing that may be gone."""
        self._forget_newest()

    async def on_renew_newest(self, _: RenewNewest) -> None:
        """Read them while those that are kept can still be shown; without the store, until then."""
        with suppress(ChatLogUnavailable):
            await self._read_newest()

    async def on_stored(self, message: Stored) -> None:
        """Tell the readers what others have stored."""
        if self._told_n is not None:
            await self._tell_until(message.n)
            return
        self._told_n = message.n
        self._forget_newest()
        self._publish(RoomResumed(self.name))

    async def on_settle(self, _: Settle) -> None:
        """Tell the readers to read again, if the store answers; else ask it later."""
        try:
            await self._fresh_newest()
        except ChatLogUnavailable:
            self._settle_later()
        else:
            self._publish(RoomResumed(self.name))

    def on_crash(self, message: CrashRoom) -> None:
        """Crash, as asked."""
        raise CrashedOnPurpose(message.because)

    def redact(self, state: dict[str, object]) -> dict[str, object]:
        """Show nobody's words in reports."""
        return policy.hide_words(state)

    async def _refusal(self, post: Post) -> NotStored | NotAMember | None:
        """Tell why somebody may not post here, before anything of the post counts (SITE-62)."""
        if self.name == LOBBY:
            return None
        if post.member_id is None:
            return NotAMember()
        match await self.on_is_member(IsMember(post.member_id)):
            case NotStored() as refusal:
                return refusal
            case is_one:
                return None if is_one else NotAMember()

    def _remember(self, user_id: UUID) -> None:
        if len(self._members) >= MEMBERS_KEPT_MAX:
            self._members.clear()
        self._members[user_id] = trio.current_time()

    def _publish_posted(self, verdict: PostVerdict) -> PostOutcome | NotStored | NotTaken:
        match verdict:
            case ChatLogUnavailable():
                self._forget_newest()  # It may be stored all the same.
                self._settle_later()
                return NotStored(str(verdict))
            case PostRefused():
                return NotTaken(str(verdict))
            case Posted(message, n):
                self.post_count += 1
                kept = self.environment.newest.maybe_window(self.name, trio.current_time())
                if kept is None or not kept.follows(message, n):
                    self._forget_newest()  # It is too old, or somebody else has posted here.
                self._told_seq = max(self._told_seq, message.seq)
                self._told_n = max(self._told_n or 0, n)
                self._publish(MessagePosted(message, n))
            case Repeated(message) if message.seq > self._told_seq:
                # The answer of the first time was lost, and the event with it.
                self._told_seq = message.seq
                self._forget_newest()
                self._publish(RoomResumed(self.name))
        return verdict

    async def _tell_until(self, n: int) -> None:
        """Publish what others have stored up to event `n`."""
        told = self._told_n
        if told is None or told >= n:
            return
        self._forget_newest()
        # Whatever comes of it: who misses something reads it again.
        self._told_n = n
        if n - told > HISTORY_LIMIT:
            # More than a page shows.
            self._publish(RoomResumed(self.name))
            return
        try:
            said = await self.environment.log.said(self.name, after=told, limit=n - told)
        except ChatLogUnavailable:
            self._settle_later()
            return
        if said.to != n or len(said.messages) != n - told:
            # Some of it is not for all, or is gone.
            self._publish(RoomResumed(self.name))
            return
        for one in said.messages:
            self._told_seq = max(self._told_seq, one.message.seq)
            self._publish(MessagePosted(one.message, one.n, one.correlation_id or ""))

    def _settle_later(self) -> None:
        self.after(SETTLED_AFTER_S, Settle(), key="settle")

    def _forget_newest(self) -> None:
        self.environment.newest.forget(self.name)

    async def _fresh_newest(self) -> NewestWindow:
        now = trio.current_time()
        window = self.environment.newest.maybe_window(self.name, now)
        if window is None:
            self._forget_newest()  # Nothing is kept when the store does not answer.
            window = await self._read_newest()
        return window

    async def _read_newest(self) -> NewestWindow:
        now = trio.current_time()
        window = NewestWindow(await self.environment.log.newest(self.name))
        # What was true when it was asked, whenever the answer came.
        self.environment.newest.put(self.name, window, now)
        return window

    def _draft(self, post: Post) -> Draft:
        env = self.environment
        status, reason = policy.classify(post.body)
        is_to_wait = status is Status.PENDING
        limits = policy.limits_for(
            post.author,
            post.address_key,
            per_author=env.posts_per_author_max,
            per_address=env.posts_per_address_max,
            waiting_per_address=env.waiting_per_address_max if is_to_wait else None,
        )
        return Draft(
            message_id=env.ids.new_id(),
            event_id=env.ids.new_id(),
            room=self.name,
            author=post.author,
            body=post.body,
            client_id=post.client_id,
            status=status,
            reason=reason,
            created_at=env.clock.now(),
            limits=limits,
            metadata=_metadata(),
            waiting_max=env.waiting_per_author_max if is_to_wait else None,
        )

    def _publish(self, event: RoomEvent) -> None:
        self.system.topics.publish(topic_of(self.name), event)


def _metadata() -> dict[str, str]:
    context = current_context()
    return {} if context is None else {"correlation_id": context.correlation_id}


RoomRef = Ref[RoomMessage]


class Rooms:
    """The way from a room's name to its actor; `find` gives None for a room that has none.

    A room's actor may be replaced (its supervisor gave up and was started anew), so refs are
    looked up at each use and never kept.
    """

    def __init__(self, find: Callable[[RoomName], RoomRef | None]) -> None:
        self._find = find

    def of(self, name: RoomName) -> RoomRef:
        """Call this to get the actor of a room now.

        Raises `UnknownRoom` for a name outside the closed set, and `NoProc` (an `AskError`)
        for a room whose actor is away: its supervisor is being restarted.
        """
        ref = self._find(name)
        if ref is not None:
            return ref
        if name in ROOM_NAMES:
            raise NoProc(f"the room {name}")
        raise UnknownRoom(name)
