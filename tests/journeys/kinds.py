"""What the fixtures of the journeys hand out, as types."""

from typing import Literal, Protocol, TypeAlias

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.journeys.site_process import SiteProcess

Motion: TypeAlias = Literal["reduce", "no-preference"]

# Marks a test of pages on which something moves, as for who prefers nothing else.
moving = pytest.mark.parametrize("motion", ["no-preference"])


class StartSite(Protocol):
    """Starts a site with settings of one's own."""

    def __call__(self, **environment: str) -> SiteProcess: ...


class OpenContext(Protocol):
    """Opens a browser context: a visitor of its own."""

    def __call__(self, width: int = 1280, height: int = 900) -> BrowserContext: ...


class OpenPage(Protocol):
    """Opens a page in a context of its own."""

    def __call__(self, width: int = 1280, height: int = 900) -> Page: ...
