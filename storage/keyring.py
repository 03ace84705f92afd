"""Sealing and opening private fields: the keys in this process, and the ciphers.

Each subject has a data key of 32 random bytes, kept in the store wrapped by a master key that is
not in the store (AES-256-GCM, a random nonce, the subject and the key's number as associated
data). A field is sealed with a key derived from those of all its subjects, so that the deletion
of any one of them ends it. Associated data are stream, event id, type, version, field and keys:
a sealed field opens in its own place only.

The nonce of a field is no random number but an HMAC over associated data and text, under a key of
its own (as a SIV mode makes it). So the same event gives the same bytes, and an append that is
repeated is known as a repeat; and two texts never meet under one nonce, even when a program gives
one event id to both. It tells whether two sealed texts are equal only for one event id and field.

Rule 1: a key is used for at most `FRESH_S` after another process deleted it, and not at all after
this one did. Nothing runs for that: whoever uses the ring asks when it has been longer.
"""

import hmac
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from actors.persistence import (
    FRESH_S,
    PRIVATE_CODEC,
    PRIVATE_KEY,
    AppendRequest,
    NewEvent,
    Opened,
    SealedFields,
    StoredEvent,
    SubjectKey,
    SubjectKeys,
)
from actors.persistence.beside_log.subject_keys import check_subjects, owned_subject, with_events
from actors.runtime import Log, Secret
from storage.errors import InvalidField, MasterKeyMissing, StoredDataError, SubjectForgotten

MASTER_BYTES = 32
_NONCE_BYTES = 12

# Keys in memory, 300 bytes each: the subjects of some thousand open pages.
KEYS_MAX = 10_000
# Of so many forgotten subjects a ring knows which they were; before that it says "perhaps".
FORGOTTEN_MAX = 10_000

_log = Log("storage.keyring")


class MasterKey:
    """A key of 32 bytes that wraps the keys of subjects; `id` is made from it."""

    def __init__(self, key: Secret[bytes]) -> None:
        if len(key.reveal()) != MASTER_BYTES:
            raise ValueError(f"a master key has {MASTER_BYTES} bytes")
        self.id = hmac.digest(key.reveal(), b"greenroom master key id", "sha256")[:6].hex()
        self._cipher = AESGCM(key.reveal())

    def __repr__(self) -> str:
        return f"<MasterKey {self.id}>"

    def wrap(self, subject: str, number: int, key: bytes) -> SubjectKey:
        """Call this for a subject's key as it is kept."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, key, _place_of_key(subject, number))
        return SubjectKey(subject, number, self.id, nonce + sealed)

    def unwrap(self, kept: SubjectKey) -> bytes:
        """Call this for the key itself; `InvalidTag` when it is not what was kept."""
        wrapped = kept.wrapped or b""
        place = _place_of_key(kept.subject, kept.number)
        return self._cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], place)


def _place_of_key(subject: str, number: int) -> bytes:
    return msgspec.json.encode(["greenroom subject key", subject, number])


class _Key:
    """The key of a subject in this process."""

    __slots__ = ("bytes", "number")

    def __init__(self, number: int, key: bytes) -> None:
        self.number, self.bytes = number, key


# Stands for a key that is damaged, or gone though nobody was forgotten.
_LOST = _Key(-1, b"")


class _Cipher:
    """What seals and opens the fields of some subjects together."""

    def __init__(self, keys: Sequence[_Key]) -> None:
        secret = b"".join(key.bytes for key in keys)  # each of one length: no two ways to cut it
        self._cipher = AESGCM(hmac.digest(secret, b"greenroom seal", "sha256"))
        self._nonces = hmac.digest(secret, b"greenroom nonce", "sha256")

    def seal(self, place: bytes, data: bytes) -> bytes:
        nonce = hmac.digest(
            self._nonces, len(place).to_bytes(4) + place + data, "sha256"
        )[:_NONCE_BYTES]  # fmt: skip
        return nonce + self._cipher.encrypt(nonce, data, place)

    def open(self, place: bytes, sealed: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            return None


class _Boxed(msgspec.Struct):
    private: SealedFields = msgspec.field(name=PRIVATE_KEY)


class SubjectKeyring:
    """The port `Keyring` on a table of keys, with the master keys; see the module's docstring.

    The first master key wraps what is new, the others only unwrap; `rewrap` moves keys to the
    first.
    """

    def __init__(
        self,
        table: SubjectKeys,
        master: Secret[bytes],
        *former: Secret[bytes],
        now: Callable[[], float] = trio.current_time,
        fresh_s: float = FRESH_S,
        keys_max: int = KEYS_MAX,
    ) -> None:
        self._table, self._now, self._fresh_s = table, now, fresh_s
        self._master = MasterKey(master)
        self._masters = {one.id: one for one in (self._master, *map(MasterKey, former))}
        self._keys: OrderedDict[str, _Key] = OrderedDict()
        self._ciphers: OrderedDict[tuple[tuple[str, int], ...], _Cipher] = OrderedDict()
        self._keys_max = keys_max
        # How many were forgotten when it was last asked, and when; never, at first.
        self._forgets: int | None = None
        self._asked_at: float | None = None
        self._gone: deque[tuple[int, str]] = deque(maxlen=FORGOTTEN_MAX)
        self._gone_from = 0
        # What this process forgot, or may have, since it last asked; and how often it did.
        self._own: set[str] = set()
        self._own_count = 0

    def __repr__(self) -> str:
        return f"<SubjectKeyring {self._master.id}: {len(self._keys)} keys>"

    # The port.

    async def seal(self, requests: Sequence[AppendRequest]) -> Sequence[AppendRequest]:
        """See `Keyring.seal`."""
        wanted = [
            subject
            for request in requests
            for event in request.events
            if event.private is not None and any(event.private.fields().values())
            for subject in event.private.subjects
        ]
        keys = await self._keys_of(wanted, is_making=True)
        return [
            with_events(request, [self._sealed(request.key, e, keys) for e in request.events])
            for request in requests
        ]

    async def open(self, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """See `Keyring.open`."""
        boxes = [_box_of(event) if event.codec == PRIVATE_CODEC else None for event in events]
        if not any(event.codec == PRIVATE_CODEC for event in events):
            return events
        wanted = [subject for box in boxes if box is not None for subject in box.keys]
        # Before the keys are asked for: what is forgotten meanwhile counts as not heard of.
        forgets = await self.forgets()
        keys = await self._keys_of(wanted)
        return [
            self._opened(event, box, keys, forgets)
            if box is not None
            else event
            if event.codec != PRIVATE_CODEC
            else msgspec.structs.replace(event, private=_UNREADABLE)
            for event, box in zip(events, boxes, strict=True)
        ]

    async def seal_bytes(self, place: str, subjects: Iterable[str], data: bytes) -> bytes:
        """See `Keyring.seal_bytes`."""
        fields = await self.seal_fields(place, sorted(set(subjects)), {"": data}, is_making=False)
        return msgspec.json.encode(fields)

    async def open_bytes(self, place: str, sealed: bytes) -> bytes | None:
        """See `Keyring.open_bytes`."""
        try:
            box = msgspec.json.decode(sealed, type=SealedFields)
        except msgspec.DecodeError:
            return None
        return (await self.open_fields([(place, box)]))[0].get("")

    async def forgets(self) -> int:
        """See `Keyring.forgets`."""
        return await self._freshen()

    def has_forgotten(self, subjects: frozenset[str], since: int) -> bool:
        """See `Keyring.has_forgotten`."""
        if not self._own.isdisjoint(subjects):
            return True
        if self._forgets is None or since >= self._forgets or not subjects:
            return False
        return since < self._gone_from or any(
            at > since and subject in subjects for at, subject in self._gone
        )

    # Beside the port.

    async def seal_fields(
        self,
        place: str,
        subjects: Sequence[str],
        fields: Mapping[str, bytes],
        *,
        is_making: bool = True,
    ) -> SealedFields:
        """Call this to seal texts that stand beside the log, each at its place and name.

        Raises `SubjectForgotten`, also for one that has no key when none is to be made.
        """
        keys = await self._keys_of(subjects, is_making=is_making)
        for subject in subjects:
            if subject not in keys:
                raise SubjectForgotten(subject)
        cipher = self._cipher(tuple(subjects), keys)
        numbers = {subject: keys[subject].number for subject in subjects}
        return SealedFields(
            numbers,
            {
                name: cipher.seal(_place([place], name, numbers), data)
                for name, data in fields.items()
            },
        )

    async def open_fields(
        self, sealed: Sequence[tuple[str, SealedFields]]
    ) -> list[Mapping[str, bytes | None]]:
        """Call this to open what `seal_fields` sealed; None for what does not open any more."""
        keys = await self._keys_of([subject for _, box in sealed for subject in box.keys])
        found: list[Mapping[str, bytes | None]] = []
        for place, box in sealed:
            cipher = self._cipher_of(box, keys)
            found.append(
                {
                    name: None
                    if cipher is None or data is None
                    else cipher.open(_place([place], name, box.keys), data)
                    for name, data in box.fields.items()
                }
            )
        return found

    async def forget(self, subject: str, *, by: str, tenant: str | None = None) -> bool:
        """Call this to forget a subject: nobody can read its private fields from here on.

        It is that of a tenant, or of none. False when it was forgotten before. Other processes may
        read them for `FRESH_S` longer. Projections that read private fields are built anew by their
        runners. Cancelled, it is done wholly or not at all: call it again.
        """
        subject = owned_subject(tenant, subject)
        try:
            return await self._table.forget(subject, by=by)
        finally:
            # Also when its outcome is not known: the table is asked again then.
            self._drop(subject)
            self._asked_at = None
            self._own.add(subject)
            self._own_count += 1

    async def readmit(self, subject: str, *, by: str, tenant: str | None = None) -> bool:
        """Call this to allow new private fields of a forgotten subject; the old stay erased.

        False when it is not forgotten.
        """
        subject = owned_subject(tenant, subject)
        kept = (await self._table.find([subject])).get(subject)
        if kept is None or not kept.is_forgotten:
            return False
        number = kept.number + 1
        new = self._master.wrap(subject, number, os.urandom(MASTER_BYTES))
        return await self._table.readmit(new, by=by)

    async def check_masters(self) -> None:
        """Call this at start; raises `MasterKeyMissing` when a key here could not be unwrapped."""
        for key_id in sorted(await self._table.masters()):
            if key_id not in self._masters:
                raise MasterKeyMissing(key_id)

    async def rewrap(self, limit: int = 1000) -> int:
        """Call this to have keys wrapped by the first master key; returns how many now were.

        When it returns 0 the former master keys are needed no longer.
        """
        moved = 0
        for old in await self._table.wrapped_by_others(self._master.id, limit=limit):
            key = self._unwrap(old)
            if key is not None:
                new = self._master.wrap(old.subject, old.number, key)
                moved += await self._table.rewrap(old, new)
        return moved

    # Keys in this process.

    async def _freshen(self) -> int:
        """Hear of what was forgotten elsewhere, when it was asked too long ago; how many it was."""
        now, before, own_count = self._now(), self._forgets, self._own_count
        is_fresh = self._asked_at is not None and now - self._asked_at < self._fresh_s
        if before is not None and is_fresh:
            return before
        count, subjects = await self._table.forgets(before, limit=FORGOTTEN_MAX)
        if before is None or count < before or count - before > len(subjects):
            # The first question; or a store that went back in time; or too many to be named.
            self._keys.clear()
            self._ciphers.clear()
            self._gone.clear()
            self._gone_from = count
        for subject in subjects:
            self._drop(subject)
            if len(self._gone) == FORGOTTEN_MAX:
                self._gone_from = self._gone[0][0]
            self._gone.append((count, subject))
        # The moment is that of the question: what was forgotten since then is asked for again, and
        # at once what this process forgot meanwhile.
        self._forgets = count
        if own_count == self._own_count:
            self._asked_at = now
            self._own.clear()
        return count

    def _drop(self, subject: str) -> None:
        self._keys.pop(subject, None)
        for subjects in [one for one in self._ciphers if subject in dict(one)]:
            del self._ciphers[subjects]

    async def _keys_of(
        self, subjects: Sequence[str], *, is_making: bool = False
    ) -> Mapping[str, _Key]:
        """The keys of subjects; those without one are left out, or refused when it is to be made.

        A dictionary of its own: what is dropped meanwhile is still there for the work in hand.
        """
        own_count = self._own_count
        asked = await self._freshen()
        wanted = dict.fromkeys(subjects)
        found = {one: self._keys[one] for one in wanted if one in self._keys}
        missing = [one for one in wanted if one not in found]
        if not missing:
            return found
        if is_making:
            check_subjects(missing)
        kept = dict(await self._table.find(missing))
        if is_making and (new := [one for one in missing if one not in kept]):
            made = [self._master.wrap(one, 1, os.urandom(MASTER_BYTES)) for one in new]
            kept |= await self._table.add(made)
        for subject in missing:
            one = kept.get(subject)
            if one is not None and one.is_forgotten:
                if is_making:
                    raise SubjectForgotten(subject)
                continue
            key = None if one is None else self._unwrap(one)
            if one is None or key is None:
                if is_making:
                    raise StoredDataError(
                        "the key of a subject was changed in the store, or removed"
                    )
                # Who forgets leaves a row. So this is damage, and no reason to say "erased".
                found[subject] = _LOST
                continue
            found[subject] = _Key(one.number, key)
            # Forgotten between the question and here: used for this work, and not kept.
            if asked == self._forgets and own_count == self._own_count:
                self._keep(subject, found[subject])
        return found

    def _keep(self, subject: str, key: _Key) -> None:
        self._keys[subject] = key
        while len(self._keys) > self._keys_max:
            self._keys.popitem(last=False)

    def _unwrap(self, kept: SubjectKey) -> bytes | None:
        """The key itself; None when it is not what was kept."""
        master = self._masters.get(kept.master or "")
        if master is None:
            raise MasterKeyMissing(kept.master or "?")
        try:
            return master.unwrap(kept)
        except (InvalidTag, ValueError):
            _log.error("keyring.key_damaged", master=master.id)
            return None

    # Events.

    def _cipher(self, subjects: tuple[str, ...], keys: Mapping[str, _Key]) -> _Cipher:
        # In the order of names: a database may keep a mapping in another than it was given.
        name = tuple((subject, keys[subject].number) for subject in sorted(subjects))
        known = self._ciphers.get(name)
        if known is not None:
            return known
        cipher = _Cipher([keys[subject] for subject, _ in name])
        # Kept as long as all of its keys are.
        if all(self._keys.get(subject) is keys[subject] for subject in subjects):
            self._ciphers[name] = cipher
            while len(self._ciphers) > self._keys_max:
                self._ciphers.popitem(last=False)
        return cipher

    def _cipher_of(self, box: SealedFields, keys: Mapping[str, _Key]) -> _Cipher | None:
        """None when one of the keys is gone, or is another by now."""
        if not box.keys:
            return None
        for subject, number in box.keys.items():
            key = keys.get(subject)
            if key is None or key.number != number:
                return None
        return self._cipher(tuple(box.keys), keys)

    def _sealed(self, stream_id: str, event: NewEvent, keys: Mapping[str, _Key]) -> NewEvent:
        private = event.private
        if private is None:
            return event
        fields = private.fields()
        if any(fields.values()):
            numbers = {subject: keys[subject].number for subject in private.subjects}
            cipher, where = self._cipher(tuple(numbers), keys), _place_of(stream_id, event)
            fields = {
                name: None if data is None else cipher.seal(_place(where, name, numbers), data)
                for name, data in fields.items()
            }
        else:
            numbers = {}
        data = with_box(event.data, SealedFields(numbers, fields))
        return msgspec.structs.replace(event, data=data, private=None)

    def _opened(
        self, event: StoredEvent, box: SealedFields, keys: Mapping[str, _Key], forgets: int
    ) -> StoredEvent:
        cipher, where = self._cipher_of(box, keys), _place_of(event.stream_key, event)
        fields: dict[str, bytes | None] = {}
        broken = set()
        for name, data in box.fields.items():
            fields[name] = None
            if data is not None and _is_lost(box, keys):
                broken.add(name)
            if cipher is not None and data is not None:
                fields[name] = cipher.open(_place(where, name, box.keys), data)
                if fields[name] is None:
                    broken.add(name)
        opened = Opened(tuple(box.keys), fields, broken=frozenset(broken), forgets=forgets)
        return msgspec.structs.replace(event, private=opened)


def with_box(data: bytes, box: SealedFields) -> bytes:
    """Call this to put sealed fields into the JSON of an event."""
    comma = b"" if data == b"{}" else b","
    return b"".join((data[:-1], comma, b'"', PRIVATE_KEY.encode(), b'":', _encode(box), b"}"))


_encode = msgspec.json.Encoder().encode
_boxed = msgspec.json.Decoder(_Boxed).decode


# Of a row that somebody wrote by hand: told when it is decoded, and keeps nobody from the others.
_UNREADABLE = Opened((), {}, broken=frozenset({PRIVATE_KEY}))


def _box_of(event: StoredEvent) -> SealedFields | None:
    """What is sealed of an event; None when it cannot be read."""
    try:
        box = _boxed(event.data).private
        check_subjects(box.keys)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidField):
        return None
    return box


def _is_lost(box: SealedFields, keys: Mapping[str, _Key]) -> bool:
    """Whether a key is damaged, and none of the others was deleted."""
    found = [keys.get(subject) for subject in box.keys]
    return None not in found and _LOST in found


def _place_of(stream_id: str, event: NewEvent | StoredEvent) -> list[object]:
    return [str(stream_id), event.event_id.hex, event.type, event.schema_version]


def _place(where: Sequence[object], field: str, keys: Mapping[str, int]) -> bytes:
    return _encode([*where, field, sorted(keys.items())])
