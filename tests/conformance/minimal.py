"""Making a scenario smaller while it still shows a difference.

Pure but for what it is handed to try with.
"""

import dataclasses
from collections.abc import Callable, Iterator

from tests.conformance.scenario import Begin, Scenario, StaticTree, Step


def smallest(scenario: Scenario, differs: Callable[[Scenario], bool]) -> Scenario:
    """Call this for a scenario from which nothing can be taken without losing the difference."""
    found = True
    while found:
        found = False
        for candidate in _smaller(scenario):
            if differs(candidate):
                scenario, found = candidate, True
                break
    return scenario


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios with one thing less, the later steps first."""
    steps = scenario.steps
    for number in range(len(steps) - 1, -1, -1):
        if not isinstance(steps[number].action, Begin):
            yield _with_steps(scenario, (*steps[:number], *steps[number + 1 :]))
    for number, step in enumerate(steps):
        for script in _smaller_scripts(step):
            yield _with_steps(scenario, (*steps[:number], script, *steps[number + 1 :]))
    tree = scenario.tree
    if isinstance(tree, StaticTree):
        for number in range(len(tree.kids)):
            kids = (*tree.kids[:number], *tree.kids[number + 1 :])
            yield dataclasses.replace(scenario, tree=dataclasses.replace(tree, kids=kids))


def _smaller_scripts(step: Step) -> Iterator[Step]:
    for name, starts in step.script.items():
        without = {other: kept for other, kept in step.script.items() if other != name}
        yield dataclasses.replace(step, script=without)
        for number in range(len(starts)):
            fewer = (*starts[:number], *starts[number + 1 :])
            yield dataclasses.replace(step, script={**step.script, name: fewer})


def _with_steps(scenario: Scenario, steps: tuple[Step, ...]) -> Scenario:
    return dataclasses.replace(scenario, steps=steps)
