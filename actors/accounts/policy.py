"""The rules of accounts as pure functions: names, addresses, passwords, and where to go next.

Rule 1: what is stored is the one form of a name or an address, so that two that look the same are
        the same. A password has no form but the one it was typed in (SEC-71).
Rule 2: a problem is told in words for the person at the form, and quotes nothing that was typed.
"""

import re
import unicodedata
from collections.abc import Callable, Container

USERNAME_LENGTH_MAX = 20
EMAIL_LENGTH_MAX = 254
EMAIL_LOCAL_LENGTH_MAX = 64
PASSWORD_LENGTH_MIN = 8
PASSWORD_LENGTH_MAX = 256
# So much behind a name makes no password of it (SEC-72).
NAME_TAIL_MAX = 3

# Names that speak for the house, and those of the demo identities (SEC-78).
RESERVED_USERNAMES = frozenset(
    {"demo", "demo bot", "bot", "admin", "moderator", "operator", "system", "deleted user"}
)
RESERVED_EMAILS = frozenset({"demo.bot@example.com", "demo@example.com", "missing@example.com"})

# Where a sign-in leads that was asked for by no page.
NEXT_DEFAULT = "/protected"

# Of the site and its rooms: the first thing a guesser tries here.
_SITE_WORDS = ("greenroom", "lobby", "support", "demo")
_NAME_SIGNS = frozenset(" _-.")
# Letters by their category that draw nothing: fillers of Hangul, here as NFKC leaves them.
_UNSEEN_LETTERS = frozenset("\u115f\u1160")
_BLANKS = re.compile(" +")
# Control, format (bidi and zero-width too), surrogate, private, unassigned; and line separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class BadField(ValueError):
    """Raised when a field breaks its rule; nothing was stored.

    `field` names it and `problem` says what to change, in words for who typed it.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


def parse_username(text: str) -> str:
    """Call this for the one form of a user name; raises `BadField` (SITE-30)."""
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).strip().lower())
    # A page shows any number of blanks as one.
    name = _BLANKS.sub(" ", name)
    if not 1 <= len(name) <= USERNAME_LENGTH_MAX:
        raise BadField("username", f"Choose a name of 1 to {USERNAME_LENGTH_MAX} characters.")
    if not all(sign in _NAME_SIGNS or _is_seen(sign) for sign in name):
        raise BadField("username", "Use letters, digits, spaces and _ - . only.")
    if name in RESERVED_USERNAMES:
        raise BadField("username", "This name is kept for the house; choose another.")
    return name


def _is_seen(sign: str) -> bool:
    return (sign.isalpha() or sign.isdecimal()) and sign not in _UNSEEN_LETTERS


def parse_email(text: str) -> str:
    """Call this for the one form of an e-mail address; raises `BadField` (SITE-31)."""
    address = text.strip().lower()
    local, at, domain = address.partition("@")
    labels = domain.split(".")
    is_one = (
        at == "@"
        and "@" not in domain
        and len(address) <= EMAIL_LENGTH_MAX
        and 1 <= len(local) <= EMAIL_LOCAL_LENGTH_MAX
        and len(labels) > 1
        and all(labels)
        and not any(sign.isspace() or unicodedata.category(sign) in _HIDDEN for sign in address)
    )
    if not is_one:
        raise BadField("email", "Give a whole address, such as ada@example.org.")
    if address in RESERVED_EMAILS:
        raise BadField("email", "This address is kept for the demo; give your own.")
    return address


def check_password(password: str, username: str, email: str, common: Container[str]) -> None:
    """Call this with a new password as it was typed; raises `BadField` (SITE-32, SEC-70, SEC-72).

    Empty names are left out of the comparison; `common` has, in small letters, what is tried first.
    """
    if len(password) < PASSWORD_LENGTH_MIN:
        raise BadField("password", f"Use at least {PASSWORD_LENGTH_MIN} characters; 15 are better.")
    if len(password) > PASSWORD_LENGTH_MAX:
        raise BadField("password", f"Use at most {PASSWORD_LENGTH_MAX} characters.")
    if _is_common(password.lower(), common):
        raise BadField("password", "Many people use this one, so it is tried first; take another.")
    lowered = password.lower()
    for word in (*_SITE_WORDS, username.lower(), email.lower(), email.lower().partition("@")[0]):
        if word and lowered.startswith(word) and len(lowered) - len(word) <= NAME_TAIL_MAX:
            raise BadField("password", "A name with a little behind it is guessed; take another.")


def _is_common(lowered: str, common: Container[str]) -> bool:
    # One sign again and again, or a short piece: the list has a few of them, a guesser all.
    repeats = any(lowered == (lowered[:size] * len(lowered))[: len(lowered)] for size in (1, 2, 3))
    return repeats or lowered in common


def safe_next(text: str, decode: Callable[[str], str], is_page: Callable[[str], bool]) -> str:
    """Call this with the page somebody wants after the sign-in; another site's never (SITE-42).

    `decode` takes the signs out of their `%` form. `is_page` tells whether a path, decoded and
    without query, can be asked for by GET. What breaks a rule counts as nothing said.
    """
    for form in (text, decode(text)):
        is_local = form.startswith("/") and not form.startswith(("//", "/\\"))
        if not is_local or "\\" in form:
            return NEXT_DEFAULT
        if any(unicodedata.category(sign) in _HIDDEN for sign in form):
            return NEXT_DEFAULT
    path = text.partition("#")[0].partition("?")[0]
    return text if is_page(decode(path)) else NEXT_DEFAULT


def mask_email(email: str) -> str:
    """Call this to write an address where others may read it: `a***@example.org` (SEC-132)."""
    local, _, domain = email.partition("@")
    return f"{local[:1]}***@{domain}"


# Chrome's word is in Edge's and Opera's names too, and Safari's in all of theirs.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Chromium/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser_family(user_agent: str) -> str:
    """Call this to name a browser for who owns it: `Firefox on Linux`; unknown ones by no name."""
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "Another program")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    return f"{browser} on {system}" if system else browser
