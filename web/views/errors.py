"""What an error page shows. View models only; template: `templates/error.html`."""

from dataclasses import dataclass

from web.views.shell import Shell
from web.views.words import ElementId, ImpossibleView, LocalPath, check_text, element_id, local_path


@dataclass(frozen=True, slots=True)
class ErrorView:
    """A refusal or failure in fixed words. The cause stays in the log, under `request_id`."""

    status: int
    title: str
    message: str
    request_id: ElementId

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ImpossibleView("status", self.status, "an HTTP error status, 400 to 599")
        check_text("title", self.title)
        check_text("message", self.message)
        element_id(self.request_id)


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """A whole error page, with the way back."""

    shell: Shell
    error: ErrorView
    back: LocalPath
    back_text: str

    def __post_init__(self) -> None:
        local_path(self.back)
        check_text("back_text", self.back_text)
