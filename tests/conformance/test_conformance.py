"""The comparison with Erlang itself: it sees what differs, and lets the known differences pass.

The long run is `make conformance`; here a few scenarios are played when Erlang is installed.
"""

import dataclasses
import runpy

import pytest

from supervision.specs.words import RestartType
from tests.conformance.differences import first_difference
from tests.conformance.erlang_side import open_erlang, parse
from tests.conformance.generate import generate
from tests.conformance.minimal import smallest
from tests.conformance.observation import Level, Observation
from tests.conformance.ours import play, quiet
from tests.conformance.run import differences
from tests.conformance.scenario import (
    Begin,
    Between,
    Call,
    DynamicTree,
    End,
    Finish,
    Kid,
    Pause,
    Scenario,
    StaticTree,
    Step,
    Strike,
)
from tests.conformance.terms import scenario_term
from tests.conformance.trace import trace
from tests.erlang import is_installed

PLAYED = 40


def scenario(restart: RestartType = "permanent") -> Scenario:
    """Three children one for all; the second crashes, and its first restart fails."""
    kids = tuple(Kid(name, restart, 5.0, False, "quick") for name in ("c1", "c2", "c3"))
    tree = StaticTree("one_for_all", 5, 1000, "never", kids)
    crash = Step(Finish("c2", "crash"), {"c2": ("fail",)})
    return Scenario(0, tree, (Step(Begin()), Step(Pause(0.01)), crash, Step(End())))


SEEN = Observation(
    "ok",
    ("stop c1", "start c1"),
    ("c1 crashed",),
    ("ok",),
    (Level("root", "1.1.0.1", ()),),
    "alive",
)


@pytest.mark.parametrize(
    "planted",
    [
        {"result": "noproc"},
        {"log": ("start c1", "stop c1")},
        {"ends": ("c1 killed",)},
        {"answers": ("restarting",)},
        {"tree": (Level("root", "1.0.0.1", ()),)},
        {"tree": (Level("root", "1.1.0.1", ("c1:none",)),)},
        {"life": "exited shutdown"},
    ],
    ids=["result", "order", "end", "answer", "counts", "list", "life"],
)
def test_a_planted_difference_is_seen_at_its_step(planted: dict[str, str]) -> None:
    other = dataclasses.replace(SEEN, **planted)  # type: ignore[arg-type]  # a field of each type
    assert first_difference(scenario(), [SEEN, SEEN], [SEEN, SEEN]) is None
    assert first_difference(scenario(), [SEEN, SEEN], [SEEN, other]) == 1
    assert first_difference(scenario(), [SEEN, SEEN], [SEEN]) == 1


def test_a_supervisor_that_restarts_the_wrong_ones_is_found_out() -> None:
    with quiet():
        right, wrong = play(scenario()), play(scenario("temporary"))
    for one in (right, wrong):  # as Erlang would tell it
        one[:] = [
            dataclasses.replace(
                seen,
                tree=tuple(dataclasses.replace(x, children=x.children[::-1]) for x in seen.tree),
            )
            for seen in one
        ]
    mine = play(scenario())
    assert first_difference(scenario(), right, mine) is None
    assert first_difference(scenario(), wrong, mine) == 2
    text = trace(scenario(), wrong, mine, 2)
    assert "2. c2 ends: crash  (c2 will fail)" in text
    assert "erlang result=ok" in text
    assert "ours   result=ok" in text


def test_ours_is_played_as_the_specification_says() -> None:
    # SUP-134, SUP-135
    with quiet():
        seen = play(scenario())
    assert [one.life for one in seen] == ["alive", "alive", "alive", "exited shutdown"]
    assert seen[2].log == (
        *("stop c3", "stop c1", "start c1", "start c2"),
        *("stop c1", "start c1", "start c2", "start c3"),
    )
    assert seen[2].tree == (Level("root", "3.3.0.3", ("c1:c1#3", "c2:c2#2", "c3:c3#2")),)
    assert seen[3].log == ("stop c3", "stop c2", "stop c1")


def test_a_line_of_erlang_is_read_whole() -> None:
    line = "7\t2\tup c1#1\tstop c1,start c1\tc1 killed\tok;running\troot 1.1.0.1 c1:c1#2\talive\n"
    assert parse(line) == Observation(
        "up c1#1",
        ("stop c1", "start c1"),
        ("c1 killed",),
        ("ok", "running"),
        (Level("root", "1.1.0.1", ("c1:c1#2",)),),
        "alive",
    )


def test_a_scenario_is_written_as_one_term() -> None:
    template = Kid("x", "transient", "kill", False, "hang")
    script = {"d1": (Between(Call("which_children")), Strike("d2", "fail"))}
    steps = (Step(Begin()), Step(Finish("d1", "shutdown"), script))
    assert scenario_term(Scenario(3, DynamicTree(1, 5, template), steps)) == (
        '{3,{dynamic,1,5,{"x",transient,brutal_kill,false,hang}},[{[],start},'
        '{[{"d1",[{fail,which_children},{strike,"d2",fail}]}],{finish,"d1",{shutdown,x}}}]}.\n'
    )


def test_a_seed_means_one_scenario_and_seeds_differ() -> None:
    assert generate(5) == generate(5)
    made = [generate(seed) for seed in range(300)]
    assert len({scenario_term(one) for one in made}) == 300
    # Every kind comes up: both kinds of trees, windows that run out, ends during starts.
    assert {type(one.tree) for one in made} == {StaticTree, DynamicTree}
    assert any(one.is_timed for one in made)
    assert any(one.is_striking for one in made)
    starts = {type(x) for one in made for s in one.steps for y in s.script.values() for x in y}
    assert starts == {str, Between, Strike}


def test_the_smallest_scenario_keeps_what_matters() -> None:
    def crashes_c2(one: Scenario) -> bool:
        return any(step.action == Finish("c2", "crash") for step in one.steps)

    small = smallest(scenario(), crashes_c2)
    assert small.steps == (Step(Begin()), Step(Finish("c2", "crash")))
    assert isinstance(small.tree, StaticTree)
    assert small.tree.kids == ()


def test_without_erlang_nothing_is_said_to_have_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tests.conformance", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == "not run: erl is not installed\n"


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="NOT COMPARED WITH ERLANG: erl is not installed")
def test_the_real_supervisor_does_the_same() -> None:
    with open_erlang() as erlang, quiet():
        found = [str(one) for one in differences(erlang, (generate(s) for s in range(PLAYED)))]
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="NOT COMPARED WITH ERLANG: erl is not installed")
def test_the_real_supervisor_is_not_just_agreed_with() -> None:
    # The same steps on another tree: what Erlang does with that one, ours must not do with this.
    with open_erlang() as erlang, quiet():
        [(_, theirs)] = erlang.play([scenario("temporary")])
        assert first_difference(scenario(), theirs, play(scenario())) == 2
        assert (
            list(differences(erlang, [scenario(), dataclasses.replace(scenario(), seed=1)])) == []
        )
