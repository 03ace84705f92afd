"""`Idempotency-Key`: a request that comes again is answered as before, and done once (WEB-14).

    keys = IdempotencyKeys(store, ring)

    @routes.post("/api/v1/orders")
    @keys.once(required=True)
    async def place() -> Response: ...

Rule 1: the key is claimed before the handler runs, and its answer kept behind it.
Rule 2: an answer that says "try again" (5xx, 429, or with `Retry-After`) frees the key.
Rule 3: a request that ends without an answer, cancelled or killed, may have had its effect: its
key stays claimed until the store takes it for dead, after a minute. Where its first effect was
stored with a key (`effect_key`), a repeat is answered at once: the handler runs again, and finds
what is stored. Whatever it does beside such effects it then does again, as behind that minute.
Rule 4: whoever comes meanwhile waits a while in this process, and is then told to come again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from hashlib import sha256
from typing import ParamSpec

import msgspec
import trio
from quart import Response, current_app, g, has_request_context, request
from quart.typing import ResponseReturnValue
from quart.wrappers.response import DataBody

from actors.persistence import Claim, IdempotencyInFlight, Idempotent, StoreError, Version
from actors.persistence.beside_log.idempotency import ANSWER_BYTES_MAX, Idempotency
from actors.persistence.event_store import kept_answer
from actors.runtime import Log, current_context
from web.api.errors import bad_request, conflict, in_flight
from web.api.reading import raw_body
from web.server import KeyRing, current_request_state

log = Log(__name__)

P = ParamSpec("P")

KEY_HEADER = "idempotency-key"
REPLAYED_HEADER = "idempotency-replayed"
# Half of a request's ten seconds: who has waited as long is better told to come again.
WAIT_S_MAX = 5.0
# The effect is there and its answer known: keeping it is worth that much of a stop's time.
KEEP_S_MAX = 2.0

# Random keys are longer than 16 characters; what a shorter one names, somebody else names too.
_KEY = re.compile("[ -~]{16,128}", re.ASCII)
# A cookie is for the browser that was there then, and these belong to each answer anew.
_NOT_KEPT = frozenset({"set-cookie", "date", "connection"})

Handler = Callable[P, Awaitable[ResponseReturnValue]]


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer as the store keeps it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Effects:
    """The key of the request in hand, for the appends it causes."""

    def __init__(self, request: Idempotent, store: Idempotency) -> None:
        self._request, self.store = request, store
        self._count = 0

    def next(self) -> Idempotent:
        self._count += 1
        return self._effect(self._count)

    async def has_begun(self) -> bool:
        """Tell whether the first of them is stored."""
        return await self.store.maybe_answer(_of_tenant(self._effect(1))) is not None

    def _effect(self, number: int) -> Idempotent:
        whole = self._request
        return Idempotent(f"{whole.scope} effect {number}", whole.key, whole.request_hash)


def effect_key() -> Idempotent | None:
    """Call this in a handler for what an append carries, so that a request that died has it once.

    Each call names the next effect of the request, so a handler asks in the same order each time.
    None on a route without keys, and for a request without one.
    """
    effects = g.get("idempotent_effects") if has_request_context() else None
    return effects.next() if isinstance(effects, _Effects) else None


async def maybe_done(effect: Idempotent, store: Idempotency | None = None) -> Version | None:
    """Call this when an effect was refused: the version it was stored at by an earlier try, if any.

    What a command decides may have been decided by that one. Raises `IdempotencyInFlight`
    while another try is under way. `store` is needed where no request is in hand.
    """
    if store is None:
        effects = g.get("idempotent_effects") if has_request_context() else None
        if not isinstance(effects, _Effects):
            return None
        store = effects.store
    effect = _of_tenant(effect)
    found = await store.begin(effect)
    if isinstance(found, bytes):
        return kept_answer(effect, found).version
    await store.abandon(found)
    return None


def _of_tenant(effect: Idempotent) -> Idempotent:
    """The key as the store of the tenant who asks keeps it."""
    context = current_context()
    if context is None or context.tenant is None:
        return effect
    return replace(effect, tenant=context.tenant)


class IdempotencyKeys:
    """Makes routes idempotent by key; the store says which keys there are, for all processes.

    A key is one user's, or one address's without a sign-in, and one route's.
    """

    def __init__(self, store: Idempotency, ring: KeyRing) -> None:
        self._store = store
        # Addresses are kept nowhere in clear.
        self._key = ring.key("idempotency scope")
        self._turns: dict[tuple[str, str], _Turn] = {}

    def __len__(self) -> int:
        """Tell how many keys are in hand."""
        return len(self._turns)

    def once(self, *, required: bool = False) -> Callable[[Handler[P]], Handler[P]]:
        """Call this as a decorator below the route's: its effect happens once a key.

        Without a key the handler runs as ever, unless it is `required`: then 400, as for a key
        that is not 16 to 128 printable ASCII characters. A key of another request is 422, one that
        is in hand for long 409. The store being away is 503: nothing was done.
        """

        def decorate(handler: Handler[P]) -> Handler[P]:
            @wraps(handler)
            async def handled(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
                key = _read_key(is_required=required)
                if key is None:
                    return await handler(*args, **kwargs)
                asked = Idempotent(self._scope(), key, await _request_hash())
                with self._turn(asked) as turn:
                    await turn.wait()
                    try:
                        effects = _Effects(asked, self._store)
                        found = await self._begin(asked, effects)
                        if isinstance(found, bytes):
                            return _replayed(found)
                        g.idempotent_effects = effects
                        response = await _answer(lambda: handler(*args, **kwargs))
                        if found is not None:
                            await self._settle(found, response)
                        return response
                    finally:
                        turn.leave()

            return handled

        return decorate

    async def _begin(self, asked: Idempotent, effects: _Effects) -> Claim | bytes | None:
        """The answer there is, or a claim; None where another's stands, and its effect too."""
        try:
            return await self._store.begin(asked)
        except IdempotencyInFlight:
            if not await effects.has_begun():
                raise
            return None

    async def _settle(self, claim: Claim, response: Response) -> None:
        is_passing = response.status_code >= 500 or response.status_code == 429
        # Shielded for a while: the effect is there, and a client that has just left asks again.
        with trio.move_on_after(KEEP_S_MAX, shield=True) as limit:
            try:
                if is_passing or "retry-after" in response.headers:
                    await self._store.abandon(claim)
                else:
                    await self._store.finish(claim, await _kept(response))
            except StoreError as error:
                # The answer is true all the same; a repeat is told to wait for a minute.
                log.warning("idempotency.answer_not_kept", code=error.code)
        if limit.cancelled_caught:
            log.warning("idempotency.answer_not_kept", code="too_slow")

    def _scope(self) -> str:
        state, rule = current_request_state(), request.url_rule
        if state.signed_in is not None:
            who = f"user {state.signed_in.user_id}"
        else:
            who = f"address {self._key.sign(state.address.encode())[:16].hex()}"
        assert rule is not None, "a handler runs for a route"
        route = sha256(f"{request.method} {rule.rule}".encode()).hexdigest()[:32]
        return f"{who} route {route}"

    @contextmanager
    def _turn(self, asked: Idempotent) -> Iterator[_Turn]:
        place = (asked.scope, asked.key)
        turn = self._turns.setdefault(place, _Turn())
        turn.users += 1
        try:
            yield turn
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[place]


class _Turn:
    """One key in this process: those who bring it come one after the other."""

    def __init__(self) -> None:
        self.users = 0
        self._lock = trio.Lock()

    async def wait(self) -> None:
        """Wait until the one before is answered; raises the answer 409 when that takes long."""
        with trio.move_on_after(WAIT_S_MAX) as limit:
            await self._lock.acquire()
        if limit.cancelled_caught:
            raise in_flight()

    def leave(self) -> None:
        """Let the next one look."""
        self._lock.release()


def _read_key(*, is_required: bool) -> str | None:
    given = request.headers.getlist(KEY_HEADER)
    if not given:
        if is_required:
            raise bad_request("This address needs an Idempotency-Key.")
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise bad_request("An Idempotency-Key is 16 to 128 printable ASCII characters, once.")
    return given[0]


async def _request_hash() -> bytes:
    data = await raw_body()
    found = sha256(f"{request.method} {request.full_path}".encode())
    found.update(b"\0" + data)
    return found.digest()


async def _answer(handler: Callable[[], Awaitable[ResponseReturnValue]]) -> Response:
    """Run the handler to its answer: one that it raises is an answer as well."""
    try:
        found = await current_app.make_response(await handler())
    except Exception as error:  # noqa: BLE001 - the application's table says what each becomes
        found = await current_app.handle_user_exception(error)  # type: ignore[assignment]
    if not isinstance(found, Response) or not isinstance(found.response, DataBody):
        raise TypeError(f"{request.path} answers a stream; a key can only keep a whole answer")
    return found


async def _kept(response: Response) -> bytes:
    body = await response.get_data()
    assert isinstance(body, bytes), "text is given only to who asks for it"
    headers = [(n, v) for n, v in response.headers.items() if n.lower() not in _NOT_KEPT]
    kept = msgspec.msgpack.encode(_Kept(response.status_code, headers, body))
    if len(kept) <= ANSWER_BYTES_MAX:
        return kept
    log.warning("idempotency.answer_too_large", bytes=len(kept))
    # The effect must not happen again for that.
    answer = conflict("This was done; its answer was too large to be kept for a repeat.")
    instead = await current_app.handle_user_exception(answer)
    return await _kept(instead)  # type: ignore[arg-type]


def _replayed(stored: bytes) -> Response:
    kept = msgspec.msgpack.decode(stored, type=_Kept)
    response = Response(kept.body, status=kept.status)
    response.headers.clear()
    for name, value in kept.headers:
        response.headers.add(name, value)
    response.headers[REPLAYED_HEADER] = "true"
    return response
