"""Which stored names are read as which of today's: aliases, upcasters, splitters.

A *place* is a stored name with its version, such as ("OrderPlaced", 1). Some places are written
today; from each other one a *road* leads there, step by step. Only names are looked at here: what
the functions of the steps do to an event is `event_types.py`.

Rule 1: `check` refuses what could not be followed to its end; until it was called nothing here
raises for that, since the modules of a program declare their parts one after the other.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Place: TypeAlias = tuple[str, int]
Fields: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Step:
    """What makes of an event of one place those of the next, and where it was written."""

    function: Callable[[Fields], object]
    targets: tuple[Place, ...]
    is_split: bool


class Roads:
    """The names of a set of event types; aliases stand for today's names wherever they occur."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}  # what is written today
        self._aliases: dict[str, str] = {}
        self._declared: dict[Place, Step] = {}
        # Made of the three above, anew after each declaration.
        self._steps: dict[Place, Step] | None = None
        self._ends: dict[Place, frozenset[str] | None] = {}
        self._stored_as: dict[frozenset[str], frozenset[str]] = {}
        self._is_checked = False

    def __len__(self) -> int:
        return len(self._declared)

    # What is declared.

    def write(self, name: str, version: int, aliases: Collection[str]) -> None:
        """Call this for a name that is written today; a name with two meanings is `TypeError`."""
        if name in self._aliases:
            raise TypeError(f"{name} is the name of an event and an alias of {self._aliases[name]}")
        for alias in aliases:
            known = self._aliases.get(alias, name)
            if alias == name or alias in self._versions:
                raise TypeError(f"{alias} is the name of an event and an alias of {name}")
            if known != name:
                raise TypeError(f"{alias} is an alias of {known} and of {name}")
        self._versions[name] = version
        self._aliases.update(dict.fromkeys(aliases, name))
        self._forget()

    def lead(self, place: Place, step: Step) -> None:
        """Call this for a step from a place; a second one is a `TypeError`."""
        if place in self._declared:
            known = where(self._declared[place].function)
            raise TypeError(f"{shown(place)} has an upcaster already: {known}")
        self._declared[place] = step
        self._forget()

    def check(self) -> None:
        """Call this at start: every road must end at what is written today; else `TypeError`."""
        if self._is_checked:
            return
        seen: dict[Place, Place] = {}
        for declared in sorted(self._declared):
            place = self._today(declared)
            if place in seen:
                raise TypeError(
                    f"{shown(seen[place])} and {shown(declared)} are one place, since one name is "
                    "an alias of the other, and both have an upcaster"
                )
            seen[place] = declared
            current = self._versions.get(place[0])
            if current is not None and place[1] >= current:
                raise TypeError(f"{shown(declared)} has an upcaster, the class is v{current}")
        for place in sorted(self._all_steps()):
            self._follow(place, ())
        self._is_checked = True

    def _follow(self, place: Place, behind: tuple[Place, ...]) -> None:
        if place in behind:
            circle = " to ".join(shown(one) for one in (*behind[behind.index(place) :], place))
            raise TypeError(f"upcasters go in a circle: {circle}")
        step = self._all_steps().get(place)
        if step is not None:
            for target in step.targets:
                self._follow(self._today(target), (*behind, place))
        elif self._versions.get(place[0]) != place[1]:
            name, version = place
            is_gap = any(name == one and step_at > version for one, step_at in self._all_steps())
            if is_gap or name in self._versions:
                raise TypeError(f"the upcaster from {shown(place)} is missing")
            raise TypeError(f"{shown(behind[-1])} has an upcaster and no class: there is no {name}")

    # What is asked.

    def today(self, name: str) -> str:
        """Call this for what a stored name is called today."""
        return self._aliases.get(name, name)

    def knows(self, name: str) -> bool:
        """Call this to ask whether a road from some version of a name was declared."""
        name = self.today(name)
        return name in self._versions or any(name == one for one, _ in self._all_steps())

    def step(self, place: Place) -> Step | None:
        """Call this for the next step from a place, whose targets are named as today."""
        return self._all_steps().get(self._today(place))

    def is_end(self, place: Place) -> bool:
        """Call this to ask whether a place is written today, under this name or an alias."""
        name, version = self._today(place)
        return self._versions.get(name) == version

    def ends(self, place: Place) -> frozenset[str] | None:
        """Call this for the names that an event may be read as; None when no road leads on."""
        place = self._today(place)
        if place not in self._ends:
            self._ends[place] = None  # also what a circle comes to
            self._ends[place] = self._find_ends(place)
        return self._ends[place]

    def splits(self, place: Place) -> bool:
        """Call this to ask whether an event of a place may be read as none or several."""
        step, seen = self.step(place), set[Place]()
        while step is not None and not step.is_split:
            (place,) = step.targets
            if place in seen:
                return False
            seen.add(place)
            step = self.step(place)
        return step is not None

    def stored_as(self, names: frozenset[str]) -> frozenset[str]:
        """Call this for all names under which events may be stored that are read as these."""
        if names not in self._stored_as:
            found = set(names)
            for place in self._all_steps():
                if names & (self.ends(place) or frozenset()):
                    found.add(place[0])
            found.update(old for old, name in self._aliases.items() if name in found)
            self._stored_as[names] = frozenset(found)
        return self._stored_as[names]

    def beside(self, names: frozenset[str]) -> frozenset[str]:
        """Call this for other names that come out of splitters together with some of these."""
        found = [self.ends(place) or frozenset() for place in self._all_steps()]
        return frozenset().union(*(ends for ends in found if names & ends)) - names

    def leading_to(self, names: Collection[str]) -> Iterator[str]:
        """Call this for the steps on roads to these names, each as a text, in a fixed order."""
        wanted = frozenset(names)
        for place, step in sorted(self._all_steps().items(), key=lambda item: item[0]):
            if wanted & (self.ends(place) or frozenset()):
                yield f"{shown(place)}>{'+'.join(shown(one) for one in step.targets)}"

    def _find_ends(self, place: Place) -> frozenset[str] | None:
        step = self._all_steps().get(place)
        if step is None:
            return frozenset({place[0]}) if self.is_end(place) else None
        parts = [self.ends(target) for target in step.targets]
        known = [part for part in parts if part is not None]
        return frozenset().union(*known) if len(known) == len(parts) else None

    def _all_steps(self) -> dict[Place, Step]:
        if self._steps is None:
            self._steps = {}
            for place, step in self._declared.items():
                targets = tuple(self._today(target) for target in step.targets)
                self._steps.setdefault(
                    self._today(place), Step(step.function, targets, step.is_split)
                )
        return self._steps

    def _today(self, place: Place) -> Place:
        return self.today(place[0]), place[1]

    def _forget(self) -> None:
        self._steps, self._is_checked = None, False
        self._ends.clear()
        self._stored_as.clear()


def parsed(full: str) -> Place:
    """Call this to read `OrderPlaced.v1`; anything else is a `TypeError`."""
    name, dot, version = full.rpartition(".v")
    if not name or not dot or not (version.isascii() and version.isdigit()) or int(version) < 1:
        raise TypeError(f"{full!r} is no stored name; it has the form OrderPlaced.v1")
    return name, int(version)


def shown(place: Place) -> str:
    """Call this for a place as it is written: `OrderPlaced.v1`."""
    return f"{place[0]}.v{place[1]}"


def where(thing: object) -> str:
    """Call this for the module and name of a class or function."""
    module = getattr(thing, "__module__", "?")
    return f"{module}.{getattr(thing, '__qualname__', thing)}"


def check_targets(old: Place, targets: Iterable[Place]) -> None:
    """Call this for where a step leads; `TypeError` for one that does not lead on."""
    for name, version in targets:
        if name == old[0] and version <= old[1]:
            raise TypeError(f"{shown(old)} cannot lead to {shown((name, version))}; versions go up")
