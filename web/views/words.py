"""The kinds of text a page puts into attributes, and the refusal of everything else.

Rule 1: what stands in an attribute was made here, so it cannot hold markup, a quote, a
script URL or a Datastar expression. What people wrote is plain `str` and goes into text
nodes only. The view models (`pages.py`, `chat.py`, `tree.py`) are built from these words and
checked by the checks below; `renderer.py` offers `dsid` to the templates.
"""

import math
import re
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NewType

ElementId = NewType("ElementId", str)
LocalPath = NewType("LocalPath", str)
OtpauthLink = NewType("OtpauthLink", str)
FormTicket = NewType("FormTicket", str)
RpId = NewType("RpId", str)
SvgPath = NewType("SvgPath", str)
Origin = NewType("Origin", str)
Nonce = NewType("Nonce", str)
CsrfToken = NewType("CsrfToken", str)

# 64 is more than any id of ours needs (a UUID has 36) and keeps an attribute readable.
ELEMENT_ID_LENGTH_MAX = 64

_ELEMENT_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ELEMENT_ID_LENGTH_MAX}}}")
# One leading slash only: `//host` would be another site. No `\`, quote, space or `:`, so no
# browser reads a host or a scheme into it.
_FORM_TICKET = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_OTPAUTH_LINK = re.compile(r"otpauth://totp/[\w%@.:~-]+\?[\w%=&.~-]+", re.ASCII)
# A picture for a camera has some thousand squares; the letters are those that draw them.
_SVG_PATH = re.compile(r"[Mhvz0-9 -]{1,65536}", re.ASCII)
_RP_ID = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){0,10}")
_LOCAL_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~/%?#=&,+-]{0,2000}")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,260}")
# 22 characters are 128 bits in base64.
_NONCE = re.compile(r"[A-Za-z0-9+/_=-]{22,88}")
_CSRF_TOKEN = re.compile(r"[A-Za-z0-9._=-]{1,512}")


class ViewError(Exception):
    """Base of what this package refuses; always a mistake of the calling code."""


class UnsafeAttribute(ViewError, ValueError):
    """Raised when a value is no `what` and therefore may not enter an attribute.

    Nothing was rendered. Make the value from an id of ours, or show it as text instead.
    """

    def __init__(self, what: str, value: object) -> None:
        super().__init__(
            f"{value!r:.100} is no {what}; nothing was rendered. "
            "Use an id made by the server, or show the value as text."
        )
        self.what, self.value = what, value


class ImpossibleView(ViewError, ValueError):
    """Raised when a view model is given a value that cannot be true.

    Nothing was rendered. The caller counted or measured wrongly.
    """

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"{field} must be {rule}, got {value!r:.100}; no view model was made.")
        self.field, self.value, self.rule = field, value, rule


def dsid(value: object) -> str:
    """Call this to let `value` into a `data-*` attribute; raises `UnsafeAttribute` if unfit.

    Fit are texts and whole numbers of 1 to 64 letters, digits, `_` and `-`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnsafeAttribute("attribute id", value)
    return element_id(str(value))


def element_id(text: str) -> ElementId:
    """Call this to make an element id of `text`; raises `UnsafeAttribute` if it is none."""
    if not _ELEMENT_ID.fullmatch(text):
        raise UnsafeAttribute("attribute id", text)
    return ElementId(text)


def mark_of(*content: str) -> ElementId:
    """Call this to name a content, so that two pages can compare what they show: no secret."""
    # 48 bits: of the few hundred things a page shows, two get one name once in a billion pages.
    digest = blake2b("\0".join(content).encode(), digest_size=6).digest()
    return ElementId(urlsafe_b64encode(digest).decode("ascii"))


def local_path(text: str) -> LocalPath:
    """Call this to make a link to this site of `text`; raises `UnsafeAttribute` if it is none."""
    if not _LOCAL_PATH.fullmatch(text):
        raise UnsafeAttribute("path of this site", text)
    return LocalPath(text)


def otpauth_link(text: str) -> OtpauthLink:
    """Call this to make a link that an app for codes opens; raises `UnsafeAttribute`."""
    if not _OTPAUTH_LINK.fullmatch(text):
        raise UnsafeAttribute("link of an app for codes", text)
    return OtpauthLink(text)


def svg_path(text: str) -> SvgPath:
    """Call this to make what a picture draws of `text`; raises `UnsafeAttribute`."""
    if not _SVG_PATH.fullmatch(text):
        raise UnsafeAttribute("path of a picture", text)
    return SvgPath(text)


def form_ticket(text: str) -> FormTicket:
    """Call this to make what a form hands on to the next of `text`; raises `UnsafeAttribute`."""
    if not _FORM_TICKET.fullmatch(text):
        raise UnsafeAttribute("ticket of a form", text)
    return FormTicket(text)


def rp_id(text: str) -> RpId:
    """Call this to make the domain that passkeys are of of `text`; raises `UnsafeAttribute`."""
    if not _RP_ID.fullmatch(text):
        raise UnsafeAttribute("domain of passkeys", text)
    return RpId(text)


def origin(text: str) -> Origin:
    """Call this to make the address of this site of `text`; raises `UnsafeAttribute`."""
    if not _ORIGIN.fullmatch(text):
        raise UnsafeAttribute("origin", text)
    return Origin(text)


def nonce(text: str) -> Nonce:
    """Call this to make a script nonce of `text`; raises `UnsafeAttribute` below 128 bits."""
    if not _NONCE.fullmatch(text):
        raise UnsafeAttribute("script nonce", text)
    return Nonce(text)


def csrf_token(text: str) -> CsrfToken:
    """Call this to make a form's token of `text`; raises `UnsafeAttribute` if it is none."""
    if not _CSRF_TOKEN.fullmatch(text):
        raise UnsafeAttribute("form token", text)
    return CsrfToken(text)


def check_count(field: str, value: int, *, least: int = 0) -> None:
    """Call this to refuse a count below `least`; raises `ImpossibleView`."""
    if value < least:
        raise ImpossibleView(field, value, f"a whole number of at least {least}")


def check_text(field: str, value: str) -> None:
    """Call this to refuse an empty text where a page would show a hole; raises `ImpossibleView`."""
    if not value.strip():
        raise ImpossibleView(field, value, "a text that is not blank")


def check_utc(field: str, at: datetime) -> None:
    """Call this to refuse a time that is not in UTC; raises `ImpossibleView`."""
    if at.utcoffset() != timedelta(0):
        raise ImpossibleView(field, at, "a time in UTC")


def check_milliseconds(field: str, value: float | None) -> None:
    """Call this to refuse a duration that no clock gives; raises `ImpossibleView`."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise ImpossibleView(field, value, "a finite number of milliseconds, 0 or more")
