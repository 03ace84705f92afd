"""A page behind the link of a mail: one button, which needs no sign-in and no script.

Opening it does nothing, so that what looks at mails uses nothing up; the form that was taken leads
to the page once more, so that a reload sends nothing again.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from quart import Blueprint, Response, request

from web.accounts.entering import NotEntered
from web.accounts.routes import FORM, REFUSED, redirect, refused, user_agent
from web.server import RequestState, current_request_state, require_media


class ShowForm(Protocol):
    """Shows the page: with its button, with what was wrong, or that it is done."""

    def __call__(
        self, token: str = "", problem: NotEntered | None = None, *, is_done: bool
    ) -> Response:
        """See `add_mailed_form`."""
        ...


# With the state of the request, what the mail carried, and the browser.
Act = Callable[[RequestState, str, str], Awaitable[object]]


def add_mailed_form(routes: Blueprint, path: str, show: ShowForm, act: Act) -> None:
    """Call this to have the page at a path, and to have its button do what the mail is for."""
    name = path.strip("/").replace("/", "_")

    @routes.get(path, endpoint=f"{name}_form")
    async def form() -> Response:
        return show(request.args.get("token", ""), is_done=request.args.get("done") == "1")

    @routes.post(path, endpoint=name)
    async def take() -> Response:
        require_media(FORM)
        token = (await request.form).get("token", "")
        try:
            await act(current_request_state(), token, user_agent())
        except REFUSED as error:
            return show(token, refused(error), is_done=False)
        return redirect(f"{path}?done=1")
