"""Our supervision playing a scenario, in virtual time.

The twin of `erlang/conf_player.erl`: the same steps, the same words.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, assert_never

import structlog
import trio
from trio.testing import MockClock

from actors.runtime import ActorError, Ref
from supervision import (
    REPORTS,
    ChildSpec,
    Dynamic,
    Flags,
    Plan,
    Supervising,
    SupervisionError,
    Supervisor,
    administer,
    open_system,
)
from tests.conformance.between import Desk
from tests.conformance.observation import Level, Observation
from tests.conformance.players import FinishNow, Stage, Who, kid_spec, tree_maker
from tests.conformance.scenario import Action, Begin, Call, End, Finish, On, Pause, Scenario
from tests.conformance.wording import answer_words, counts_words, error_words, list_words

# Long enough for every child that hangs to be killed; and for windows that run out after a
# second no time at all.
REST_S: Final = 3.0
REST_TIMED_S: Final = 0.01


class House(Supervisor):
    """Holds the tree of a scenario as a child that is never restarted."""

    def plan(self) -> Plan:
        return Plan(Flags(), [])


@contextmanager
def quiet() -> Iterator[None]:
    """Call this to keep crashes out of the log: they are what a scenario is made of."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def play(scenario: Scenario) -> list[Observation]:
    """Call this to play a scenario and get what was to be seen after each step."""

    async def run() -> list[Observation]:
        async with open_system(House) as house:
            return await Player(house, scenario).play()

    return trio.run(run, clock=MockClock(autojump_threshold=0))


class Player:
    """One scenario under way."""

    def __init__(self, house: House, scenario: Scenario) -> None:
        self._house, self._scenario = house, scenario
        self._stage = Stage()
        self._desk = Desk(self._stage, house.system)
        self._life = "exited never_ran"

    async def play(self) -> list[Observation]:
        """Call this once: does the steps, and looks after each."""
        seen: list[Observation] = []
        rest = REST_TIMED_S if self._scenario.is_timed else REST_S
        self._house.system.topics.subscribe(REPORTS, self._desk)
        with self._house.tree.watch(self._stage):
            for step in self._scenario.steps:
                self._stage.prepare(step.script)
                result = await self._act(step.action)
                await trio.sleep(rest)
                seen.append(await self._look(result))
        return seen

    # -- doing ---------------------------------------------------------------------------------

    async def _act(self, action: Action) -> str:
        match action:
            case Begin():
                maker = tree_maker(self._stage, "root", self._scenario.tree)
                spec = ChildSpec("root", maker, restart="temporary", type="supervisor")
                return await self._start(spec)
            case End():
                return await self._end()
            case Finish():
                return await self._finish(action)
            case Pause():
                await trio.sleep(action.seconds)
                return "ok"
            case On():
                return await self._on(action)
        assert_never(action)

    async def _start(self, spec: ChildSpec) -> str:
        try:
            answer = await self._house.start_child(spec)
        except SupervisionError as error:
            return error_words(error, self._stage)
        return answer_words(answer, self._stage)

    async def _end(self) -> str:
        if "root" not in self._stage.live:
            return "noproc"
        await self._house.terminate_child("root")
        return "ok"

    async def _finish(self, action: Finish) -> str:
        if action.name not in self._stage.live:
            return "noproc"
        ref = self._stage.refs[action.name]
        if action.how == "kill":
            ref.kill()
        else:
            worker: Ref[FinishNow | Who] = ref  # type: ignore[assignment]  # only they finish
            worker.tell(FinishNow(action.how))
        return "ok"

    async def _on(self, action: On) -> str:
        ref = self._stage.refs.get(action.supervisor)
        if ref is None:
            return "noproc"
        try:
            return answer_words(await self._call(administer(ref), action.call), self._stage)
        except (SupervisionError, ActorError) as error:
            return error_words(error, self._stage)

    async def _call(self, handle: Supervising, call: Call) -> object:
        assert isinstance(handle, Supervisor | Dynamic)
        target = call.target
        if call.by_ref:
            target = self._stage.refs.get(target, self._house.ref)  # type: ignore[assignment]
        match call.name:
            case "start_child":
                assert call.kid is not None
                return await handle.start_child(kid_spec(self._stage, call.kid))
            case "start_dynamic":
                assert isinstance(handle, Dynamic)
                return await handle.start_child(call.target)
            case "terminate_child":
                await handle.terminate_child(target)  # type: ignore[arg-type]  # an id or a ref
                return None
            case "restart_child":
                return await handle.restart_child(target)
            case "delete_child":
                await handle.delete_child(target)
                return None
            case "get_childspec":
                return await handle.get_spec(target)  # type: ignore[arg-type]  # as above
            case "which_children":
                return await handle.which_children()
            case "count_children":
                return await handle.count_children()
        assert_never(call.name)

    # -- seeing --------------------------------------------------------------------------------

    async def _look(self, result: str) -> Observation:
        stage = self._stage
        tree: list[Level] = []
        if "root" in stage.live:
            await self._look_at("root", tree)
            self._life = "alive"
        elif self._life == "alive":
            kind = next(one.partition(" ")[2] for one in stage.ends if one.startswith("root "))
            self._life = f"exited {kind}"
        log, stage.log = tuple(stage.log), []
        ends, stage.ends = tuple(stage.ends), []
        return Observation(result, log, ends, self._desk.answers(), tuple(tree), self._life)

    async def _look_at(self, name: str, tree: list[Level]) -> None:
        handle = administer(self._stage.refs[name])
        assert isinstance(handle, Supervisor | Dynamic)
        children = await handle.which_children()
        counts = counts_words(await handle.count_children())
        words = list_words(children, self._stage)
        tree.append(Level(name, counts, tuple(words)))
        for child, word in zip(children, words, strict=True):
            if child.type == "supervisor" and child.ref is not None:
                await self._look_at(child.id or "", tree)
            elif child.ref is not None:
                # The list may say what it likes: the one behind the ref has to answer.
                answer = await child.ref.ask(Who(), timeout=1.0)
                assert word.endswith(f":{answer}"), f"{word} is listed, {answer} answers"
