"""The routes of checkouts: begin one, answer, confirm, cancel, crash it, set the clock (LAB-35)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
from quart import Blueprint, Response

from web.lab.demos.checkout.steps import CHOICES, TITLES, Choice
from web.lab.demos.checkout.visitors import ACTIONS, OF_A_STEP, Checkouts
from web.lab.sandbox.recording import Deed
from web.lab.sandbox.sandboxes import NotNow
from web.lab.stage import actions
from web.lab.stage.actions import StageServices
from web.routing import paths
from web.routing.commands import answer_by_status_only, parse_tab, read_command
from web.routing.decided import CommandKey
from web.routing.errors import InvalidInput, NoSuchThing
from web.routing.services import Services
from web.server import current_request_state

START = "start"
# Their clock is no checkout, and has one hand: it is named where those are.
CLOCK, ADVANCE = "clock", "advance"
# How the record names what was acted on; which one it was is nobody's matter.
A_CHECKOUT = "a checkout"
# As long as the words they are named by may be, and no longer.
WORD_LENGTH_MAX = 16


class CheckoutCommand(msgspec.Struct, frozen=True):
    """What a button of the panel sends."""

    command_id: str = msgspec.field(name="commandId")
    tab: str = msgspec.field(name="sseTabId")
    choice: str = "well"
    step: str = ""


def checkout_routes(services: Services, stage: StageServices, checkouts: Checkouts) -> Blueprint:
    """Call this to get the routes."""
    routes = Blueprint("checkouts", __name__)

    async def carry_out(
        action: str, target: str, command: CheckoutCommand, do: Callable[[UUID], Awaitable[None]]
    ) -> Response:
        state = current_request_state()
        tab = parse_tab(command.tab)
        if not 1 <= len(command.command_id) <= actions.COMMAND_ID_LENGTH_MAX:
            raise InvalidInput("a command has an id of 1 to 128 characters")
        key = CommandKey(state.visitor.id, f"{action} checkout {target}", command.command_id)
        sandbox, deed = stage.sandboxes.of(state.visitor.id), Deed(action, A_CHECKOUT, 1)

        async def decide() -> str:
            actions.refuse_closed(services, stage, state, tab)
            if target and target not in await checkouts.of(state.visitor.id):
                raise NoSuchThing(target)
            actions.take_quota(stage, state, sandbox, deed)
            outcome = actions.DONE
            try:
                await do(state.visitor.id)
            except NotNow:
                outcome = actions.NOT_POSSIBLE
            actions.settle(stage, state, key, sandbox, deed, outcome)
            return outcome

        outcome = await stage.decided.once(key, decide)
        return actions.answer_of(outcome or actions.NOT_POSSIBLE, A_CHECKOUT)

    @routes.post(paths.LAB_SAGAS)
    async def start() -> Response:
        command, _ = await read_command(CheckoutCommand, "lab")
        answer_by_status_only()
        if command.choice not in CHOICES:
            raise InvalidInput("a checkout cannot be asked to go that way")
        choice: Choice = command.choice  # type: ignore[assignment]  # it is one of them
        return await carry_out(
            START, "", command, lambda session: checkouts.start(session, choice, command.command_id)
        )

    @routes.post(paths.LAB_SAGA_ACTION)
    async def act(saga: str, action: str) -> Response:
        command, _ = await read_command(CheckoutCommand, "lab")
        answer_by_status_only()
        if (saga, action) == (CLOCK, ADVANCE):
            return await carry_out(ADVANCE, "", command, checkouts.advance)
        if action not in ACTIONS or len(saga) > WORD_LENGTH_MAX:
            raise InvalidInput("there is no such action, or nothing has such a name")
        step = command.step
        if step not in TITLES and (step or action in OF_A_STEP):
            raise InvalidInput("a checkout has no such step")
        return await carry_out(
            action, saga, command, lambda session: checkouts.act(session, saga, action, step)
        )

    return routes
