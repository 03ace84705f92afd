"""The page a visitor sees when a plain request failed (SITE-151)."""

from web import paths
from web.server import ErrorView as Told
from web.site.pages import navigation
from web.views import ErrorPage, ErrorView, Renderer, Shell, element_id, local_path, nonce

PAGE_ERROR = "error"


class ErrorPages:
    """Renders error pages. They open no stream and name nobody: they must work at the worst."""

    def __init__(self, renderer: Renderer, version: str) -> None:
        self._renderer, self._version = renderer, version

    def render(self, told: Told) -> str:
        """Call this with what may be told; returns the whole page."""
        frame = Shell(
            title=told.title,
            page=element_id(PAGE_ERROR),
            nonce=nonce(told.nonce),
            nav=navigation(PAGE_ERROR),
            viewer_name="a visitor",
            version=self._version,
        )
        error = ErrorView(told.status, told.title, told.message, element_id(told.request_id))
        page = ErrorPage(frame, error, local_path(paths.HOME), "Back to the start")
        return self._renderer.error_page(page)
