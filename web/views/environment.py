"""The Jinja2 environment: strict, autoescaping, with the few filters templates may use.

No page is described here (see the view models) and none is rendered (see `renderer.py`).
"""

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from web.views.static import StaticTable
from web.views.words import dsid

TEMPLATES = Path(__file__).with_name("templates")

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def make_environment(static: StaticTable) -> Environment:
    """Call this to get an environment whose `static_url` gives the addresses of `static`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["dsid"] = dsid
    environment.filters["grouped"] = grouped
    environment.filters["milliseconds"] = milliseconds
    environment.filters["duration"] = duration
    environment.filters["iso"] = iso
    environment.filters["clock"] = clock
    environment.globals["static_url"] = static.url
    return environment


def grouped(count: int) -> str:
    """Call this to write a count with its thousands apart: `12,345`."""
    return f"{count:,}"


def milliseconds(value: float) -> str:
    """Call this to write milliseconds with the digits that matter: `0.42`, `7.3`, `128`."""
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(seconds: int) -> str:
    """Call this to write a duration in its two largest units: `3 h 12 min`, `42 s`."""
    days, rest = divmod(seconds, _DAY_S)
    hours, rest = divmod(rest, _HOUR_S)
    minutes, left = divmod(rest, _MINUTE_S)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def iso(at: datetime) -> str:
    """Call this to write a UTC time for machines: `2026-11-21T08:14:05Z`."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: datetime) -> str:
    """Call this to write a UTC time for people; the client script shows it in their zone."""
    return at.strftime("%H:%M:%S UTC")
