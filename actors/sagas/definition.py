"""What a person writes: a saga as a class, its steps in order. Checked when the class is made.

```python
class Checkout(Saga[Order]):
    place = step(PlaceOrder, undo=CancelOrder, result=OrderPlaced)
    pay = step(ProcessPayment, undo=RefundPayment, result=PaymentCompleted)
    reserve = step(ReserveInventory, undo=ReleaseInventory)
```

`PlaceOrder` is a class marked with `command`; its fields are filled by name from the data and from
the results of earlier steps. Where that is not enough, give a function that takes `Facts` and
gives the command. Rule: what is given here is pure; it runs again whenever the same decision is
made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import (
    ClassVar,
    Final,
    Generic,
    Never,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
    overload,
)

import msgspec

from actors.sagas.words.errors import SagaDefinitionError
from actors.sagas.words.state import SagaState
from actors.sagas.words.words import (
    COMMANDS,
    DEPTH_MAX,
    STEP_CHARS_MAX,
    is_kind,
    is_step,
    target_of,
)

D = TypeVar("D")
D_co = TypeVar("D_co", covariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# A participant that has not answered by then will hardly do so; its step is undone.
STEP_TIMEOUT_S: Final = 30.0
# A customer waits for no longer; it is 30 steps that take their whole time.
DEADLINE_S: Final = 900.0
# A moment's trouble is over by then, in three tries; a longer one is the deadline's matter.
RETRY_DELAYS_S: Final = (0.1, 0.2, 0.4)
# A table of results that one append could still hold; a longer one is two sagas.
STEPS_MAX: Final = 64
RETRIES_MAX: Final = 20
# A timer is a row; ten years are no time-out but a mistake.
TIMEOUT_S_MAX: Final = 10 * 365 * 86_400.0


class StepNotDone(LookupError):
    """Raised by `Facts.result` for a step that has no result: a mistake in the saga's own code."""

    def __init__(self, step: str) -> None:
        super().__init__(f"step {step} is not done, so it has no result")
        self.step = step


@dataclass(frozen=True, slots=True)
class Facts(Generic[D_co]):
    """What a command is made of: the saga's id, its data, and the results of steps that are done.

    `reason` is why it compensates; empty before.
    """

    saga: str
    data: D_co
    results: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""

    def result(self, step: Step[R]) -> R:
        """Call this for the result of a step; raises `StepNotDone`."""
        if step.name not in self.results:
            raise StepNotDone(step.name)
        return cast("R", self.results[step.name])


# A class marked with `command`, or a function that takes the facts and gives one.
Work: TypeAlias = type[object] | Callable[[Never], object]


class Step(Generic[R_co]):
    """A step as it was declared; made by `step`, `child` and `wait`, named by its class."""

    def __init__(
        self,
        where: str,
        *,
        do: Work | None = None,
        undo: Work | None = None,
        result: type[object] | None = None,
        wait_for: type[object] | None = None,
        child: type[AnySaga] | None = None,
        data: Callable[[Never], object] | None = None,
        timeout_s: float = STEP_TIMEOUT_S,
        undo_timeout_s: float = STEP_TIMEOUT_S,
        retries: Sequence[float] = RETRY_DELAYS_S,
        undo_when_unknown: bool = True,
    ) -> None:
        self.name, self.where = "", where
        self.do, self.undo, self.result_type, self.wait_for = do, undo, result, wait_for
        self.child, self.child_data = child, data
        self.timeout_s, self.undo_timeout_s = timeout_s, undo_timeout_s
        given: object = retries
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise SagaDefinitionError(where, f"retries is {given!r}; give waits in seconds")
        self.retries, self.undo_when_unknown = tuple(retries), undo_when_unknown
        for name, value in (("timeout", timeout_s), ("undo_timeout", undo_timeout_s)):
            _check_seconds(where, name, value)
        _check_flag(where, "undo_when_unknown", undo_when_unknown)
        if len(self.retries) > RETRIES_MAX:
            raise SagaDefinitionError(where, f"more than {RETRIES_MAX} retries")
        for value in self.retries:
            _check_seconds(where, "a wait of retries", value)

    def __repr__(self) -> str:
        return f"<Step {self.name or '(without a name)'}>"

    @property
    def can_undo(self) -> bool:
        """Call this to ask whether there is something to do when it must be undone."""
        return self.undo is not None or self.child is not None

    @property
    def sort(self) -> str:
        """Call this for what the step is, as the log tells: see `StepStarted`."""
        if self.child is not None:
            return f"saga {self.child.definition().kind}"
        return "" if self.wait_for is None else "signal"

    def read(self, result: Mapping[str, object]) -> object:
        """Call this for a result as its class; raises `ValidationError` of msgspec."""
        if self.result_type is None:
            return result
        return msgspec.convert(result, self.result_type, str_keys=True)


class Group:
    """Steps that begin together; made by `group`."""

    def __init__(self, where: str, steps: Sequence[Step[object]], *, parallel_undo: bool) -> None:
        self.where, self.steps, self.parallel_undo = where, tuple(steps), parallel_undo


@overload
def step(
    do: Work,
    *,
    undo: Work | None = None,
    timeout: float = STEP_TIMEOUT_S,
    undo_timeout: float = STEP_TIMEOUT_S,
    retries: Sequence[float] = RETRY_DELAYS_S,
    undo_when_unknown: bool = True,
) -> Step[Mapping[str, object]]: ...
@overload
def step(
    do: Work,
    *,
    undo: Work | None = None,
    result: type[R],
    timeout: float = STEP_TIMEOUT_S,
    undo_timeout: float = STEP_TIMEOUT_S,
    retries: Sequence[float] = RETRY_DELAYS_S,
    undo_when_unknown: bool = True,
) -> Step[R]: ...
def step(
    do: Work,
    *,
    undo: Work | None = None,
    result: type[object] | None = None,
    timeout: float = STEP_TIMEOUT_S,
    undo_timeout: float = STEP_TIMEOUT_S,
    retries: Sequence[float] = RETRY_DELAYS_S,
    undo_when_unknown: bool = True,
) -> Step[object]:
    """Call this in a saga's body: a command that is sent, and the one that takes it back.

    `result` is the class that a reply is read as; without, it is a mapping. `timeout` is in
    seconds; `retries` are the waits between attempts that failed for a moment, of the undo as well.
    A step that nobody answered is undone, unless `undo_when_unknown` is False.
    """
    made: Step[object] = Step(
        _here(),
        do=do,
        undo=undo,
        result=result,
        timeout_s=timeout,
        undo_timeout_s=undo_timeout,
        retries=retries,
        undo_when_unknown=undo_when_unknown,
    )
    return _noted(made)


def wait(wait_for: type[R], *, timeout: float = STEP_TIMEOUT_S) -> Step[R]:
    """Call this in a saga's body: a step that is done when a signal of this class comes."""
    made: Step[R] = Step(_here(), wait_for=wait_for, result=wait_for, timeout_s=timeout)
    return _noted(made)


def child(
    kind: type[Saga[D]],
    *,
    data: Callable[[Never], D],
    timeout: float | None = None,
    undo_timeout: float | None = None,
) -> Step[Mapping[str, object]]:
    """Call this in a saga's body: a step that is another saga, with `data` made of the facts.

    Its id is `{parent}/{step}`. Both times are the child's own deadline unless they are given, and
    a minute more for the way. Its result has the results of all its steps by their names.
    """
    where = _here()
    given: object = kind
    if not (isinstance(given, type) and issubclass(given, Saga)):
        raise SagaDefinitionError(where, f"{kind!r} is no saga")
    whole = kind.definition().deadline_s + _CHILD_WAY_S
    made: Step[Mapping[str, object]] = Step(
        where,
        child=kind,
        data=data,
        timeout_s=whole if timeout is None else timeout,
        undo_timeout_s=whole if undo_timeout is None else undo_timeout,
    )
    return _noted(made)


# A parent that gave up in the same moment as its child would not hear why.
_CHILD_WAY_S: Final = 60.0


def group(*steps: Step[object], parallel: bool = False) -> Group:
    """Call this in a saga's body: these steps begin together, and it goes on when all are done.

    When one fails the others are awaited, then what is done is undone: one after the other, or
    together where `parallel` says that they are independent.
    """
    where = _here()
    if len(steps) < 2:
        raise SagaDefinitionError(where, "a group has two steps or more")
    for one in steps:
        if not isinstance(one, Step):
            raise SagaDefinitionError(where, f"{one!r} is no step")
    _check_flag(where, "parallel", parallel)
    return Group(where, steps, parallel_undo=parallel)


@dataclass(frozen=True, slots=True)
class Unit:
    """What begins together: one step, or a group."""

    steps: tuple[Step[object], ...]
    parallel_undo: bool = False


@dataclass(frozen=True)
class Definition:
    """A saga's class as it was checked: what the decisions go by."""

    kind: str
    version: int
    data_type: type
    units: tuple[Unit, ...]
    deadline_s: float
    fingerprint: str
    where: str
    own_parts: bool = False
    migrate: Callable[[SagaState], str] | None = None

    @property
    def steps(self) -> Iterator[Step[object]]:
        """Call this for all steps in their order."""
        return (one for unit in self.units for one in unit.steps)

    def step(self, name: str) -> Step[object] | None:
        """Call this for a step; None when there is none of that name."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> Mapping[str, Step[object]]:
        # Asked some ten times for each append of a saga.
        return {one.name: one for one in self.steps}

    @property
    def depth(self) -> int:
        """Call this for how deep sagas nest in this one, itself counted."""
        below = [one.child.definition().depth for one in self.steps if one.child is not None]
        return 1 + max(below, default=0)


class AnySaga:
    """Base of every saga, whatever its data; write `class Checkout(Saga[Order])`."""

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1
    deadline_s: ClassVar[float] = DEADLINE_S
    own_parts: ClassVar[bool] = False
    _definition: ClassVar[Definition]

    @classmethod
    def definition(cls) -> Definition:
        """Call this for what the class says, checked."""
        return cls._definition

    @classmethod
    def migrate(cls, state: SagaState) -> str:
        """Override this: at which step a saga of former steps goes on; a pure function.

        Steps before it that were not done are skipped; those that were are not done again, and are
        undone as this class says. A step in flight must be one of this class too, and one that
        has begun stays what it is: a command, a signal, or a saga of its kind.
        """
        raise TypeError(f"{cls.__qualname__} has no migrate()")


class Saga(AnySaga, Generic[D]):
    """Base of a saga's definition; a class without instances.

    `kind` names it in ids, streams and tables; without, it is the class's name in lower case with
    underscores. Raise `version` when the steps change, and keep the former class beside it as
    long as sagas of it run, or write `migrate`. `deadline_s` is the time that the whole may take.
    With `own_parts = True` its messages leave by parts of the outbox that are for sagas
    alone (`SAGA_PARTS`), which then need a relay; else by those of all other commands.
    Each mistake is a `SagaDefinitionError` with file and line, when the class is made.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        frame = sys._getframe(1)
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        cls._definition = _define(cls, where)
        cls.kind = cls._definition.kind


# In the body of a saga's class: the steps that were made there.
_MADE: Final = "_steps_made"


def _here() -> str:
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _noted(made: Step[R]) -> Step[R]:
    """Keep a step where its class will find it: one that is given no name would be lost."""
    body = sys._getframe(2).f_locals
    if "__qualname__" in body and "__module__" in body:
        body.setdefault(_MADE, []).append(made)
    return made


def _check_seconds(where: str, name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 < cast("float", value) <= TIMEOUT_S_MAX):
        raise SagaDefinitionError(where, f"{name} is {value!r}; it is a number of seconds above 0")


def _check_flag(where: str, name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise SagaDefinitionError(where, f"{name} is {value!r}; it is True or False")


def _define(cls: type[AnySaga], where: str) -> Definition:
    kind = cls.__dict__.get("kind", "") or _snake(cls.__name__)
    if not isinstance(kind, str) or not is_kind(kind):
        raise SagaDefinitionError(where, f"{kind!r} is no kind: lower case letters, digits and _")
    version: object = cls.version
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SagaDefinitionError(where, f"version is {version!r}; versions count from 1")
    _check_seconds(where, "deadline_s", cls.deadline_s)
    data_type = _data_type(cls, where)
    units = _units(cls, where)
    known = dict.fromkeys(_fields(data_type), data_type)
    _check_units(units, known)
    own = inspect.getattr_static(cls, "migrate")
    if not isinstance(own, classmethod):
        raise SagaDefinitionError(where, "its migrate is no classmethod")
    migrate = None if own is AnySaga.__dict__["migrate"] else cls.migrate
    _check_flag(where, "own_parts", cls.own_parts)
    found = Definition(
        kind,
        version,
        data_type,
        units,
        cls.deadline_s,
        _fingerprint(units),
        where,
        cls.own_parts,
        migrate,
    )
    if found.depth > DEPTH_MAX:
        raise SagaDefinitionError(where, f"sagas nest {DEPTH_MAX} deep at most")
    return found


def _snake(name: str) -> str:
    marked = "".join(f"_{one}" if one.isupper() else one for one in name)
    return marked.lower().strip("_").replace("__", "_")


def _data_type(cls: type, where: str) -> type:
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) is Saga:
            found = get_args(base)[0]
            if isinstance(found, type) and _is_frozen(found):
                return found
            raise SagaDefinitionError(where, f"its data, {found!r}, is no frozen class")
    raise SagaDefinitionError(where, "name the class of its data: class Checkout(Saga[Order])")


def _is_frozen(cls: object) -> bool:
    if not isinstance(cls, type):
        return False
    if issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    params = getattr(cls, "__dataclass_params__", None)
    return dataclasses.is_dataclass(cls) and params is not None and bool(params.frozen)


def _fields(cls: type | None) -> Mapping[str, bool]:
    """The fields of a frozen class, and whether each must be given."""
    if cls is None or not _is_frozen(cls):
        return {}
    if issubclass(cls, msgspec.Struct):
        return {one.name: one.required for one in msgspec.structs.fields(cls)}
    none = dataclasses.MISSING
    return {
        one.name: one.default is none and one.default_factory is none
        for one in dataclasses.fields(cls)  # type: ignore[arg-type]
        if one.init
    }


# Of the commands of a program, which each step fills.
@lru_cache(maxsize=1024)
def _names(cls: type) -> tuple[str, ...]:
    return tuple(_fields(cls))


def _units(cls: type, where: str) -> tuple[Unit, ...]:
    """The steps in the order of the body; those of a group stand where its first one does."""
    named = {name: one for name, one in vars(cls).items() if isinstance(one, Step)}
    for name, one in named.items():
        if one.name:
            raise SagaDefinitionError(
                one.where, f"{name} is also named {one.name}; declare it anew"
            )
        if hasattr(Saga, name):
            raise SagaDefinitionError(one.where, f"{name} is a word of every saga; name it else")
        if len(name) > STEP_CHARS_MAX:
            raise SagaDefinitionError(one.where, f"{name} is longer than {STEP_CHARS_MAX} letters")
        if not is_step(name):
            why = f"{name} is no name of a step: lower case letters, digits and _"
            raise SagaDefinitionError(one.where, why)
        one.name = name
    for one in vars(cls).get(_MADE, ()):
        if vars(cls).get(one.name) is not one:
            raise SagaDefinitionError(one.where, "a step without a name; give it one first")
    groups = [one for one in vars(cls).values() if isinstance(one, Group)]
    group_of: dict[str, Group] = {}
    for each in groups:
        for one in each.steps:
            if not one.name or named.get(one.name) is not one:
                raise SagaDefinitionError(one.where, "a step without a name; give it one first")
            if one.name in group_of:
                raise SagaDefinitionError(each.where, f"{one.name} is in two groups, or twice")
            group_of[one.name] = each
    if not 1 <= len(named) <= STEPS_MAX:
        raise SagaDefinitionError(where, f"has {len(named)} steps; 1 to {STEPS_MAX} are possible")
    units: list[Unit] = []
    placed: set[int] = set()
    for name, one in named.items():
        found = group_of.get(name)
        if found is None:
            units.append(Unit((one,)))
        elif id(found) not in placed:
            placed.add(id(found))
            units.append(Unit(found.steps, found.parallel_undo))
    return tuple(units)


def _check_units(units: Sequence[Unit], known: dict[str, type]) -> None:
    """Each command can be made of what is known by then: the data, and results of earlier units."""
    for unit in units:
        for one in unit.steps:
            _check_step(one, known)
        for one in unit.steps:
            for name in _fields(one.result_type):
                # Of two results with one name nobody knows which is meant.
                known[name] = _Ambiguous if name in known else one.result_type or object


class _Ambiguous:
    """Stands for a field that several results have."""


def _check_step(one: Step[object], known: Mapping[str, type]) -> None:
    if one.wait_for is not None and not _is_frozen(one.wait_for):
        raise SagaDefinitionError(one.where, f"{one.name} waits for {one.wait_for!r}: not frozen")
    if one.result_type is not None and not _is_frozen(one.result_type):
        raise SagaDefinitionError(one.where, f"the result of {one.name} is no frozen class")
    if one.child is not None:
        _check_function(one.where, f"data of {one.name}", one.child_data)
        return
    if one.wait_for is None:
        _check_work(one, "do", one.do, known)
    if one.undo is not None:
        _check_work(one, "undo", one.undo, known)


def _check_work(one: Step[object], part: str, work: Work | None, known: Mapping[str, type]) -> None:
    what = f"{part} of {one.name}"
    if not isinstance(work, type):
        _check_function(one.where, what, work)
        if "<lambda>" in getattr(work, "__qualname__", ""):
            # A step is known again by the name of its function: see `_fingerprint`.
            why = (
                f"{what} is a lambda; give a function with a name, by which the step is known again"
            )
            raise SagaDefinitionError(one.where, why)
        return
    if target_of(work) is None:
        raise SagaDefinitionError(one.where, f"{what}: mark {work.__qualname__} with @command")
    for name, is_required in _fields(work).items():
        if known.get(name) is _Ambiguous:
            why = f"{what}: {name} is in several results; give a function of the facts"
            raise SagaDefinitionError(one.where, why)
        is_own = part == "undo" and name in _fields(one.result_type)
        if is_own and is_required and name not in known and one.undo_when_unknown:
            # Where nobody answered there is no result, and it is undone all the same.
            why = f"{what}: {work.__qualname__}.{name} is known only from its result"
            raise SagaDefinitionError(
                one.where,
                f"{why}, which may not have come. Name it in the data, give it a default, give a "
                "function of the facts, or say undo_when_unknown=False",
            )
        if is_required and name not in known and not is_own:
            why = f"{what}: nothing known by then has {work.__qualname__}.{name}"
            raise SagaDefinitionError(one.where, f"{why}; give a function of the facts")


def _check_function(where: str, what: str, function: object) -> None:
    if not callable(function):
        raise SagaDefinitionError(where, f"{what} is {function!r}; give a command or a function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise SagaDefinitionError(where, f"{what} is no plain function; it must not wait")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        why = f"{what} must take one thing, the facts"
        raise SagaDefinitionError(where, why) from None


def _fingerprint(units: Sequence[Unit]) -> str:
    """What is the same as long as the steps mean the same: not their times."""
    lines = []
    for unit in units:
        told = [
            f"{one.name}:{_told(one.do)}:{_told(one.undo)}:{_told(one.wait_for)}:"
            + (f"{one.child.definition().kind}" if one.child is not None else "")
            for one in unit.steps
        ]
        lines.append("+".join(told))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _told(work: object) -> str:
    if isinstance(work, type) and target_of(work) is not None:
        return f"{target_of(work)}/{COMMANDS.name_of(work)}"
    return "" if work is None else str(getattr(work, "__qualname__", type(work).__qualname__))


# Commands out of the facts.


def filled(cls: type, facts: Facts[object], own: str = "") -> object:
    """Call this for a command with its fields filled by name: own result, data, other results."""
    sources = [facts.results.get(own), facts.data, *facts.results.values()]
    values = {}
    for name in _names(cls):
        for source in sources:
            if source is not None and hasattr(source, name):
                values[name] = getattr(source, name)
                break
    return cls(**values)
