"""What the pages of accounts show: the forms that sign in and register, and what members see.

View models only, one for a template of the same name. What somebody typed comes back in the `value`
of its field, which is escaped text in quotes like any other; a password never does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from web.views.pages import Shell
from web.views.words import CsrfToken, LocalPath, check_text, csrf_token, local_path


@dataclass(frozen=True, slots=True)
class SignInPage:
    """The form that signs in. `problems` are by field; that of the whole form is ""."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    register: LocalPath
    email: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        local_path(self.register)


@dataclass(frozen=True, slots=True)
class RegisterPage:
    """The form that makes an account."""

    shell: Shell
    csrf: CsrfToken
    next: LocalPath
    sign_in: LocalPath
    username: str = ""
    email: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        csrf_token(self.csrf)
        local_path(self.next)
        local_path(self.sign_in)


@dataclass(frozen=True, slots=True)
class ProtectedPage:
    """A page for members only."""

    shell: Shell
    username: str

    def __post_init__(self) -> None:
        check_text("username", self.username)
