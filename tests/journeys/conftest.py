"""A running site and a real browser for the journeys."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Response,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.journeys.kinds import Motion, OpenContext, OpenPage, StartSite
from tests.journeys.site_process import SiteProcess
from tests.patience import PATIENCE_S

P = ParamSpec("P")
PATIENCE_MS = PATIENCE_S * 1000
expect.set_options(timeout=PATIENCE_MS)

# The first of them draws into no window at all: a third less to do for the same pages.
CHROMIUM_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A process for each page costs more than what the page does in it.
    "--renderer-process-limit=1",
    "--disable-features=SpareRendererForSitePerProcess",
]


@pytest.fixture
def start_site(tmp_path: Path) -> Iterator[StartSite]:
    """Start sites with settings of one's own; all are stopped at the end."""
    started: list[SiteProcess] = []

    def start(**environment: str) -> SiteProcess:
        site = SiteProcess(tmp_path / f"state-{len(started)}", **environment)
        started.append(site)
        return site

    yield start
    for site in started:
        site.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteProcess]:
    """One site for the tests of a module that leave it as it was."""
    running = SiteProcess(
        tmp_path_factory.mktemp("site"),
        CHAT_POSTS_PER_AUTHOR_MAX="1000",
        CHAT_POSTS_PER_ADDRESS_MAX="1000",
    )
    yield running
    running.end()


def chromium_path() -> str | None:
    """Find Chromium; CHROMIUM names another one."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def _again_when_told(
    go: Callable[P, Response | None], reload: Callable[[], Response | None]
) -> Callable[P, Response | None]:
    """Load a page once more when a busy site asks for a moment, as people do."""

    def patient(*words: P.args, **named: P.kwargs) -> Response | None:
        deadline = time.monotonic() + PATIENCE_S
        answer = go(*words, **named)
        while answer is not None and answer.status == 503 and time.monotonic() < deadline:
            # To go to the same place would load nothing where the address names a part of it.
            answer = reload()
        return answer

    return patient


def _with_patient_pages(open_context: Callable[P, BrowserContext]) -> Callable[P, BrowserContext]:
    """Have all pages of a browser's contexts do so."""

    def patient(*words: P.args, **named: P.kwargs) -> BrowserContext:
        context = open_context(*words, **named)
        context.new_page = _patient(context.new_page)  # type: ignore[method-assign]  # reason: of playwright
        return context

    return patient


def _patient(new_page: Callable[[], Page]) -> Callable[[], Page]:
    def patient() -> Page:
        page = new_page()
        reload = page.reload
        page.goto = _again_when_told(page.goto, reload)  # type: ignore[method-assign]  # reason: of playwright
        page.reload = _again_when_told(reload, reload)  # type: ignore[method-assign]  # reason: as above
        return page

    return patient


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    if path is None:
        pytest.skip("CHROMIUM IS MISSING: no browser test was run; install it or set CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=CHROMIUM_ARGUMENTS, timeout=PATIENCE_MS
        )
        chromium.new_context = _with_patient_pages(chromium.new_context)  # type: ignore[method-assign]  # reason: of playwright
        yield chromium
        chromium.close()


@pytest.fixture
def motion() -> Motion:
    """What visitors say that they prefer; `moving` marks tests of those who say nothing.

    A page of which something moves is drawn sixty times a second: a fifth of a processor.
    """
    return "reduce"


@pytest.fixture
def new_context(browser: Browser, motion: Motion) -> Iterator[OpenContext]:
    """Open browser contexts, each a visitor of its own."""
    contexts: list[BrowserContext] = []

    def open_context(width: int = 1280, height: int = 900) -> BrowserContext:
        viewport: ViewportSize = {"width": width, "height": height}
        context = browser.new_context(viewport=viewport, reduced_motion=motion)
        contexts.append(context)
        return context

    yield open_context
    for context in contexts:
        context.close()


@pytest.fixture
def new_page(new_context: OpenContext) -> OpenPage:
    """Open pages, each in a context of its own."""

    def open_page(width: int = 1280, height: int = 900) -> Page:
        page = new_context(width, height).new_page()
        page.set_default_timeout(PATIENCE_MS)
        return page

    return open_page
