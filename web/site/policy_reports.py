"""What browsers report of broken page policies (SEC-66): read, cut to what may be logged, counted.

Anybody can send such reports, and about anything: so nothing of one is believed or kept but a line
in the log, without queries, fragments and samples of scripts, which hold what visitors wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import msgspec
from quart import Blueprint, Response, request

from actors.runtime import Log
from web.routing import paths
from web.routing.errors import InvalidInput
from web.routing.quota import Quota
from web.server import current_request_state

log = Log(__name__)

# SEC-66: a broken page reports a few times and is mended; a script reports for ever.
REPORTS_PER_ADDRESS_MAX = 10
PERIOD_S = 60.0
# Of one request: browsers gather reports for some seconds and send them together.
LOGGED_PER_REQUEST_MAX = 10
# Of all addresses together in one period, so that no crowd of them fills the log.
LOGGED_MAX = 100
# A directive is a word, an address a line; longer ones tell nobody more.
_TEXT_MAX = 200


class _Violation(msgspec.Struct, rename="kebab"):
    """One report as `report-uri` sends it."""

    document_uri: str = ""
    blocked_uri: str = ""
    effective_directive: str = ""
    violated_directive: str = ""
    source_file: str | None = None
    line_number: int | None = None
    disposition: str = ""


class _Old(msgspec.Struct, rename={"report": "csp-report"}):
    report: _Violation


class _Body(msgspec.Struct, rename="camel"):
    document_url: str = msgspec.field(default="", name="documentURL")
    blocked_url: str = msgspec.field(default="", name="blockedURL")
    effective_directive: str = ""
    source_file: str | None = None
    line_number: int | None = None
    disposition: str = ""


class _New(msgspec.Struct):
    """One report as `report-to` sends it, in a list with others; of other types is the rest."""

    type: str
    body: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """Holds what is logged of one report: printable, short, and nobody's words."""

    directive: str
    blocked: str
    page: str
    source: str
    line: int | None
    disposition: str


def read_reports(body: bytes | str) -> list[PolicyReport]:
    """Call this with what a browser sent, in either form; raises `InvalidInput`.

    Reports of other things than page policies are left out.
    """
    try:
        found = msgspec.json.decode(body, type=_Old | list[_New])
        if isinstance(found, _Old):
            one = found.report
            directive = one.effective_directive or one.violated_directive
            return [_report(directive, one.blocked_uri, one.document_uri, one)]
        bodies = [
            msgspec.json.decode(one.body, type=_Body) for one in found if one.type == _VIOLATION
        ]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput("the report cannot be read") from error
    return [
        _report(one.effective_directive, one.blocked_url, one.document_url, one) for one in bodies
    ]


_VIOLATION = "csp-violation"


def _report(directive: str, blocked: str, page: str, rest: _Violation | _Body) -> PolicyReport:
    return PolicyReport(
        directive=_shown(directive),
        blocked=_address(blocked),
        page=_address(page),
        source=_address(rest.source_file or ""),
        line=rest.line_number,
        disposition=_shown(rest.disposition),
    )


def _address(text: str) -> str:
    """Give an address without what only its visitor may know; of `data:` and the like the kind."""
    text = text.partition("#")[0].partition("?")[0]
    scheme, mark, rest = text.partition(":")
    if not mark or "/" in scheme:
        return _shown(text)  # "inline", "eval", a path
    if not rest.startswith("//"):
        return _shown(scheme)
    host, slash, path = rest[2:].partition("/")
    return _shown(f"{scheme}://{host.rpartition('@')[2]}{slash}{path}")


def _shown(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text[:_TEXT_MAX])


class PolicyReports:
    """Takes reports, so many of an address, and logs the first of each period.

    `now` is the loop's clock. What was not logged is counted, and told with the next line that is.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.quota = Quota(
            now,
            "policy-reports",
            per_session_max=REPORTS_PER_ADDRESS_MAX,
            per_address_max=REPORTS_PER_ADDRESS_MAX,
            period_s=PERIOD_S,
        )
        self._since, self._logged, self._left_out = now(), 0, 0

    def admit(self, address: str) -> None:
        """Call this before a report is read; raises `RateLimited`."""
        # Of no session: browsers send reports without one, or with one that nobody asked for.
        self.quota.take(None, address)

    def take(self, reports: list[PolicyReport]) -> None:
        """Call this with what one request brought."""
        for report in self._within_limits(reports):
            log.warning("page.policy_broken", left_out=self._left_out, **asdict(report))
            self._left_out = 0

    def _within_limits(self, reports: list[PolicyReport]) -> Iterator[PolicyReport]:
        now = self._now()
        if now - self._since >= PERIOD_S:
            self._since, self._logged = now, 0
        count = max(0, min(len(reports), LOGGED_PER_REQUEST_MAX, LOGGED_MAX - self._logged))
        self._logged += count
        yield from reports[:count]
        self._left_out += len(reports) - count


def report_routes(reports: PolicyReports) -> Blueprint:
    """Call this to get the route that browsers report to."""
    routes = Blueprint("policy_reports", __name__)

    @routes.post(paths.POLICY_REPORT)
    async def report() -> Response:
        reports.admit(current_request_state().address)
        reports.take(read_reports(await request.get_data()))
        return Response(b"", status=204)

    return routes
