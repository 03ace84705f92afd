"""A scenario and where its two sides part, for a person to read."""

from collections.abc import Iterator, Sequence

from tests.conformance.differences import settled
from tests.conformance.observation import Observation
from tests.conformance.scenario import DynamicTree, Scenario, StaticTree


def trace(
    scenario: Scenario, erlang: Sequence[Observation], ours: Sequence[Observation], end: int
) -> str:
    """Call this for the tree and the steps up to `end`, with what each side saw.

    A step at which both saw the same takes one line.
    """
    lines = [f"seed {scenario.seed}", *_tree("root", scenario.tree)]
    for number, step in enumerate(scenario.steps[: end + 1]):
        starts = "; ".join(
            f"{name} will {', '.join(str(one) for one in todo)}"
            for name, todo in step.script.items()
        )
        lines.append(f"{number}. {step.action}{f'  ({starts})' if starts else ''}")
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
    yield f"{indent}{name}: {body}"
    if isinstance(body, StaticTree):
        for kid in body.kids:
            yield f"{indent}  {kid}"
            if isinstance(kid.body, StaticTree | DynamicTree):
                yield from _tree(kid.id, kid.body, f"{indent}    ")
