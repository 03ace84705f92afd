"""Writing a scenario as one line of Erlang; the other side of it is `erlang/conf_player.erl`."""

from typing import assert_never

from supervision.specs.words import ShutdownTime
from tests.conformance.scenario import (
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
    Step,
    Strike,
)

AUTO = {"never": "never", "any": "any_significant", "all": "all_significant"}
REASONS = {"normal": "normal", "shutdown": "{shutdown,x}", "crash": "boom", "kill": "kill"}


def scenario_term(scenario: Scenario) -> str:
    """Call this for the line that makes Erlang play a scenario."""
    steps = ",".join(_step(step) for step in scenario.steps)
    return f"{{{scenario.seed},{_body(scenario.tree)},[{steps}]}}.\n"


def _body(body: str | StaticTree | DynamicTree) -> str:
    match body:
        case StaticTree():
            kids = ",".join(_kid(kid) for kid in body.kids)
            flags = f"{body.strategy},{body.intensity},{body.period},{AUTO[body.auto]}"
            return f"{{static,{flags},[{kids}]}}"
        case DynamicTree():
            return f"{{dynamic,{body.intensity},{body.period},{_kid(body.template)}}}"
        case _:
            return body


def _kid(kid: Kid) -> str:
    significant = str(kid.significant).lower()
    shutdown = _shutdown(kid.shutdown)
    return f'{{"{kid.id}",{kid.restart},{shutdown},{significant},{_body(kid.body)}}}'


def _shutdown(shutdown: ShutdownTime) -> str:
    if shutdown == "kill":
        return "brutal_kill"
    if shutdown == float("inf"):
        return "infinity"
    return str(round(float(shutdown) * 1000))


def _step(step: Step) -> str:
    scripts = ",".join(
        f'{{"{name}",[{",".join(_start(one) for one in starts)}]}}'
        for name, starts in step.script.items()
    )
    return f"{{[{scripts}],{_action(step.action)}}}"


def _start(step: StartStep) -> str:
    match step:
        case Between():
            return f"{{fail,{_call(step.call)}}}"
        case Strike():
            return f'{{strike,"{step.victim}",{step.then}}}'
        case _:
            return step


def _action(action: Action) -> str:
    match action:
        case Begin():
            return "start"
        case End():
            return "stop"
        case Finish():
            return f'{{finish,"{action.name}",{REASONS[action.how]}}}'
        case Pause():
            return f"{{sleep,{round(action.seconds * 1000)}}}"
        case On():
            return f'{{call,"{action.supervisor}",{_call(action.call)}}}'
    assert_never(action)


def _call(call: Call) -> str:
    if call.kid is not None:
        return f"{{{call.name},{_kid(call.kid)}}}"
    if call.by_ref:
        return f'{{by_ref,{call.name},"{call.target}"}}'
    return f'{{{call.name},"{call.target}"}}' if call.target else call.name
