"""Seeded scenarios: trees of supervisors, and steps that children and callers can do to them.

The same seed gives the same scenario for ever; a change here changes what all seeds mean.
"""

from random import Random

from supervision.specs.words import AutoShutdownMode, RestartType, ShutdownTime, Strategy
from tests.conformance.scenario import (
    Action,
    Begin,
    Between,
    Call,
    CallName,
    DynamicTree,
    End,
    Finish,
    How,
    Kid,
    Manner,
    On,
    Pause,
    Scenario,
    StartStep,
    StaticTree,
    Step,
    Strike,
)

STRATEGIES: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one"]
RESTARTS: list[RestartType] = ["permanent", "permanent", "transient", "temporary"]
AUTOS: list[AutoShutdownMode] = ["never", "never", "any", "all"]
HOWS: list[How] = ["normal", "shutdown", "crash", "crash", "kill"]
MANNERS: list[Manner] = ["quick", "quick", "quick", "crash", "hang"]
LISTED: list[CallName] = ["terminate_child", "restart_child", "delete_child", "get_childspec"]
QUESTIONS: list[CallName] = ["which_children", "count_children"]
# In a scenario that is not timed nothing leaves the window; in a timed one a pause empties it.
FOR_EVER = 100_000
LONG_PAUSE = 2.1
PAUSES_MAX = 2
ROOMY = 1000


class Maker:
    """One scenario in the making."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.is_timed = self.random.random() < 0.05
        # Our supervisor gives up with the attempt that uses up its budget, Erlang's when it comes
        # to the next one. Calls between attempts need a budget that is never used up.
        self.is_roomy = not self.is_timed and self.random.random() < 0.4
        self.is_striking = not self.is_roomy and not self.is_timed and self.random.random() < 0.3
        self.is_loose = False
        self.pauses = 0
        self.period = 1 if self.is_timed else FOR_EVER
        self.strategies: dict[str, Strategy] = {}
        # Supervisors by name, with the ids that are or were below them; workers' names.
        self.ids: dict[str, list[str]] = {}
        self.dynamic: dict[str, str] = {}
        self.workers: list[str] = []
        self._serial = 0

    def make(self) -> Scenario:
        """Call this once."""
        tree = self.tree("root", depth=0)
        steps = [Step(Begin(), self.begin_script())]
        steps += [self.step() for _ in range(self.random.randint(3, 10))]
        return Scenario(self.seed, tree, (*steps, Step(End())), self.is_timed, self.is_striking)

    # -- trees -----------------------------------------------------------------------------------

    def tree(self, name: str, depth: int) -> StaticTree | DynamicTree:
        random = self.random
        intensity = ROOMY if self.is_roomy else random.choice([0, 1, 1, 2, 3, 5])
        if random.random() < 0.2:
            self.dynamic[name] = random.choice("xy")
            template = self.kid(self.dynamic[name], "never", depth=9)
            self.workers.pop()
            return DynamicTree(intensity, self.period, template)
        auto = random.choice(AUTOS)
        self.ids[name] = []
        count = random.randint(1, 5 if depth == 0 else 2)
        kids = tuple(self.kid(self.fresh(name), auto, depth) for _ in range(count))
        self.strategies[name] = random.choice(STRATEGIES)
        return StaticTree(self.strategies[name], intensity, self.period, auto, kids)

    def fresh(self, supervisor: str) -> str:
        """A new id under a supervisor."""
        self._serial += 1
        self.ids[supervisor].append(f"c{self._serial}")
        return f"c{self._serial}"

    def kid(self, child_id: str, auto: AutoShutdownMode, depth: int) -> Kid:
        random = self.random
        restart = random.choice(RESTARTS)
        significant = auto != "never" and restart != "permanent" and random.random() < 0.6
        if depth < 2 and random.random() < 0.15:
            body = self.tree(child_id, depth + 1)
            return Kid(child_id, restart, float("inf"), significant, body)
        self.workers.append(child_id)
        manner: Manner = "quick" if self.is_timed else random.choice(MANNERS)
        shutdown: ShutdownTime = random.choice([5.0, 5.0, float("inf"), "kill"])
        if manner == "hang" and shutdown != "kill":
            shutdown = 0.02
        return Kid(child_id, restart, shutdown, significant, manner)

    # -- steps -----------------------------------------------------------------------------------

    def begin_script(self) -> dict[str, tuple[StartStep, ...]]:
        """Now and then a child does not come up at the tree's own start."""
        if self.random.random() < 0.9 or not self.workers:
            return {}
        return {self.random.choice(self.workers): (self.random.choice(["fail", "ignore"]),)}

    def step(self) -> Step:
        random = self.random
        if self.is_timed and self.pauses < PAUSES_MAX and random.random() < 0.3:
            self.pauses += 1
            return Step(Pause(LONG_PAUSE))
        names = [*self.workers, *self.workers, *self.ids, *self.dynamic]
        if random.random() < 0.55 and names:
            name = random.choice(names)
            if name in self.ids or name in self.dynamic:
                how: How = "kill"
            else:
                how = random.choice(HOWS)
            self.is_loose = False
            return Step(Finish(name, how), self.restart_script(name), self.is_loose)
        supervisor = random.choice([*self.ids, *self.dynamic])
        action: Action
        if supervisor in self.dynamic:
            action = On(supervisor, self.dynamic_call(supervisor))
        else:
            action = On(supervisor, self.static_call(supervisor))
        return Step(action, self.call_script(action))

    def restart_script(self, name: str) -> dict[str, tuple[StartStep, ...]]:
        """What the starts come to that follow an end: mostly they succeed at once."""
        random = self.random
        script: dict[str, tuple[StartStep, ...]] = {}
        if random.random() < 0.5:
            script[name] = self.starts(name)
        if random.random() < 0.3 and self.workers and not self.is_striking:
            other = random.choice(self.workers)
            script[other] = self.starts(other)
        return script

    def starts(self, name: str) -> tuple[StartStep, ...]:
        random = self.random
        if self.is_striking and name in self.workers:
            return self.strikes(name)
        steps = [self.failure(name) for _ in range(random.choice([1, 1, 2, 3, 8]))]
        # Erlang 25 breaks when a dynamic child ignores its restart: it keeps an undefined child,
        # and crashes over it when it is stopped. SUP-138 says what is right.
        last: StartStep = random.choice(["ok", "ok", "ok", "ok" if name[0] == "d" else "ignore"])
        return (*steps, last)

    def strikes(self, name: str) -> tuple[StartStep, ...]:
        """Starts during which others are killed; in a group one, for each side has its order."""
        random = self.random
        strategy = next((self.strategies[one] for one, ids in self.ids.items() if name in ids), "")
        if strategy in ("one_for_all", "rest_for_one"):
            return (Strike(random.choice(self.workers), "ok"),)
        # Nobody twice: whether the victim is up again by then is a matter of time.
        victims = random.sample(self.workers, min(len(self.workers), random.choice([1, 2, 3])))
        return tuple(Strike(victim, random.choice(["ok", "fail"])) for victim in victims)

    def failure(self, name: str) -> StartStep:
        if name not in self.workers or not self.is_roomy or self.is_loose:
            return "fail"
        return Between(self.between(name)) if self.random.random() < 0.6 else "fail"

    def between(self, name: str) -> Call:
        """A call on the supervisor of this child, served after a failed attempt."""
        random = self.random
        parent = next((one for one, ids in self.ids.items() if name in ids), None)
        if parent is None:
            # Not count_children: see KNOWN_DIFFERENCES.
            is_list = random.random() < 0.5
            return Call("which_children") if is_list else Call("terminate_child", name, by_ref=True)
        if random.random() < 0.3:
            return Call(random.choice(QUESTIONS))
        # What concerns another child goes on beside the attempts: nothing is asked after it.
        self.is_loose = random.random() < 0.2
        if not self.is_loose:
            return Call(random.choice(LISTED[:3]), name)
        if self.strategies[parent] == "one_for_one" and random.random() < 0.5:
            return Call("start_child", kid=self.kid(self.fresh(parent), "never", depth=9))
        return Call("terminate_child", random.choice(self.ids[parent]))

    def static_call(self, supervisor: str) -> Call:
        random, ids = self.random, self.ids[supervisor]
        if random.random() < 0.25:
            child_id = self.fresh(supervisor)
            return Call("start_child", kid=self.kid(child_id, "never", depth=2))
        known = [one for one in ids if one in self.workers]
        if known and random.random() < 0.1:
            return Call("start_child", kid=self.kid(random.choice(known), "never", depth=9))
        if random.random() < 0.1:
            return Call(random.choice(QUESTIONS))
        if random.random() < 0.05 and self.workers:
            return Call("terminate_child", random.choice(self.workers), by_ref=True)
        return Call(random.choice(LISTED), random.choice([*ids, *ids, "nobody"]))

    def dynamic_call(self, supervisor: str) -> Call:
        random = self.random
        if random.random() < 0.5:
            self._serial += 1
            self.workers.append(f"d{self._serial}")
            return Call("start_dynamic", self.workers[-1])
        if random.random() < 0.2:
            return Call("which_children")
        if random.random() < 0.2:
            # Not get_childspec: by an id it is Unsupported here (SUP-60), not_found there.
            return Call(random.choice(LISTED[:3]), "d1")
        target = random.choice([*self.workers, "nobody"])
        return Call(random.choice(["terminate_child", "get_childspec"]), target, by_ref=True)

    def call_script(self, action: Action) -> dict[str, tuple[StartStep, ...]]:
        """A start that a caller asked for fails or ignores now and then."""
        random = self.random
        if not isinstance(action, On) or random.random() < 0.6:
            return {}
        call = action.call
        name = call.target if call.kid is None else call.kid.id
        return {name: (random.choice(["fail", "ignore"]),)} if name else {}


def generate(seed: int) -> Scenario:
    """Call this for the scenario of a seed."""
    return Maker(seed).make()
