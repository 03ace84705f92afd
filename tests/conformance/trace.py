"""Writing a scenario, and where its two sides part, for a person."""

from collections.abc import Iterator, Sequence

from .differences import settled
from .observation import Observation
from .scenario import (
    Action,
    Begin,
    Between,
    Call,
    DynamicTree,
    End,
    Finish,
    Kid,
    On,
    Pause,
    Scenario,
    StartStep,
    StaticTree,
    Strike,
)

__all__ = ["trace"]


def trace(
    scenario: Scenario, erlang: Sequence[Observation], ours: Sequence[Observation], end: int
) -> str:
    """Call this for the tree and the steps up to `end`, with what each side saw.

    A step at which both saw the same takes one line.
    """
    lines = [f"seed {scenario.seed}", *_tree("root", scenario.tree)]
    for number, step in enumerate(scenario.steps[: end + 1]):
        starts = "; ".join(
            f"{name} will {', '.join(_start(one) for one in todo)}"
            for name, todo in step.script.items()
        )
        lines.append(f"{number}. {_action(step.action)}{f'  ({starts})' if starts else ''}")
        sides = []
        for name, seen in (("erlang", erlang), ("ours", ours)):
            is_there = number < len(seen)
            sides.append(
                (name, settled(seen[number], scenario, number, name) if is_there else None)
            )
        if sides[0][1] == sides[1][1]:
            lines.append(f"     both   {sides[0][1]}")
        else:
            lines += [f"     {name:<6} {seen}" for name, seen in sides]
    return "\n".join(lines)


def _tree(name: str, body: StaticTree | DynamicTree, indent: str = "  ") -> Iterator[str]:
    limit = f"{body.intensity} in {body.period} s"
    if isinstance(body, DynamicTree):
        yield f"{indent}{name}: dynamic, {limit}, of {_kid(body.template)}"
        return
    yield f"{indent}{name}: {body.strategy}, {limit}, auto_shutdown {body.auto}"
    for kid in body.kids:
        yield f"{indent}  {_kid(kid)}"
        if isinstance(kid.body, StaticTree | DynamicTree):
            yield from _tree(kid.id, kid.body, f"{indent}    ")


def _kid(kid: Kid) -> str:
    manner = kid.body if isinstance(kid.body, str) else "supervisor"
    significant = ", significant" if kid.significant else ""
    return f"{kid.id}: {kid.restart}, shutdown {kid.shutdown}, {manner}{significant}"


def _start(step: StartStep) -> str:
    match step:
        case Between():
            return f"fail, then {_call(step.call)}"
        case Strike():
            return f"kill {step.victim} and {step.then}"
        case _:
            return step


def _action(action: Action) -> str:
    match action:
        case Begin():
            return "start"
        case End():
            return "stop"
        case Finish():
            return f"{action.name} ends: {action.how}"
        case Pause():
            return f"{action.seconds} s go by"
        case On():
            return f"{action.supervisor}.{_call(action.call)}"


def _call(call: Call) -> str:
    target = _kid(call.kid) if call.kid is not None else call.target
    return f"{call.name}({'ref of ' if call.by_ref else ''}{target})"
