"""The subjects of the web half: sites, routes and clients of one's own.

See `api_subjects.py`.
"""

from __future__ import annotations

from typing import Final

from tests.docs.api_words import WRITTEN, Page, Subject

APP: Final = Page(
    "web_app.md",
    "web.app",
    "web.app: a site of one's own",
    "`from web.app import ...`. To learn it, begin with "
    f"[a page of your own](../../how_to/own-page.md). {WRITTEN}",
    (
        Subject("Opening a site", ("SitePlan", "serve_site", "open_site", "OwnSite")),
        Subject(
            "Topics, and commands on them", ("Topic", "Speaker", "command", "Command", "Refused")
        ),
        Subject("Panels that renew themselves", ("Panel", "PanelOf")),
        Subject(
            "What else the database keeps",
            (
                "Beside",
                "OwnBus",
                "NothingBeside",
                "Searching",
                "check_store",
                "store_components",
                "bus_component",
            ),
        ),
        Subject("What one of several nodes has", ("Host",)),
        Subject("How a part is", ("Component", "Finding", "healthy", "degraded", "unhealthy")),
        Subject(
            "The process around a site",
            (
                "run_program",
                "run_site",
                "prepare_state_dir",
                "prepare_database",
                "store_of",
                "make_cleaner",
                "spare_what_stays",
                "CannotStart",
                "COLLECTED_AFTER",
                "EXAMPLES_FOLDER",
            ),
            "What `greenroom serve` is made of; a program of one's own calls `serve_site`.",
        ),
    ),
    words=(
        "actors.cluster.reaching.hosting.StartSoon",
        "web.observability.health.words.Check",
        "web.observability.health.words.Detail",
        "web.observability.health.words.Status",
    ),
)

API: Final = Page(
    "web_api.md",
    "web.api",
    "web.api: routes for client programs",
    "`from web.api import ...`. To learn it, begin with "
    f"[answer client programs](../../how_to/answer-client-programs.md). {WRITTEN}",
    (
        Subject(
            "Reading a request",
            (
                "body",
                "correlation_id",
                "client_address",
                "user_agent",
                "why_unread",
                "problems_of",
                "is_too_deep",
                "DEPTH_MAX",
            ),
        ),
        Subject(
            "Four ways to answer",
            (
                "accept",
                "carry_out",
                "read_state",
                "wait_outcome",
                "wait_milestone",
                "Refusals",
                "ok",
                "created",
                "accepted",
                "OUTCOME_S_MAX",
            ),
        ),
        Subject(
            "Refusals",
            (
                "bad_request",
                "unauthorized",
                "payment_failed",
                "forbidden",
                "step_up",
                "not_found",
                "method_not_allowed",
                "timeout",
                "conflict",
                "in_flight",
                "too_large",
                "unsupported",
                "validation",
                "mismatch",
                "too_many",
                "internal",
                "unavailable",
                "add_errors",
            ),
            "Each is raised: `raise not_found(...)`. All of them: [errors](../../errors.md).",
        ),
        Subject("One request, one effect", ("IdempotencyKeys", "effect_key", "maybe_done")),
        Subject("How often", ("keep_within", "count", "rate_limit_headers")),
        Subject(
            "Lists in pieces, and one's own writes",
            ("Pages", "Page", "catch_up", "PAGE_LIMIT", "PAGE_LIMIT_MAX"),
        ),
    ),
)

CLIENT: Final = Page(
    "web_client.md",
    "web.client",
    "web.client: a client in Python",
    "`from web.client import ...`. To learn it, read "
    f"[client programs](../../how_to/client-programs.md). {WRITTEN}",
    (
        Subject(
            "A connection",
            ("connect", "Client", "ClientSettings", "State", "Acknowledged"),
        ),
        Subject("What comes of a topic", ("Subscription", "TopicEvent", "Gap")),
        Subject(
            "What goes wrong",
            ("ClientError", "ClientClosed", "CommandRefused", "CommandOverdue", "QueueFull"),
        ),
    ),
)

_LINKS: Final = "actors.accounts.ways.links"

PARTS: Final = Page(
    "web_parts.md",
    "web",
    "web: what else programs import",
    "Servers, requests, mail, sockets and people, for a program that goes beyond "
    "[a site of its own](web_app.md). Here stands what the pages and examples import; what else "
    "these packages have is the site's own, and may change with it. Each name is imported from "
    f"the package below its heading. {WRITTEN}",
    (
        Subject(
            "A server without our site",
            tuple(
                f"web.server.{name}"
                for name in (
                    "WebApp",
                    "serve",
                    "open_listeners",
                    "ServerSettings",
                    "EdgeSettings",
                    "KeyRing",
                )
            ),
            "For routes of one's own in a program that has pages of another make, or none: "
            "[answer client programs](../../../how_to/answer-client-programs.md).",
        ),
        Subject(
            "What is checked, and which answer an error gets",
            ("web.server.Checks", "web.server.ErrorTable", "web.server.ErrorRow"),
        ),
        Subject(
            "A request, and its answer",
            (
                "web.server.current_request_state",
                "web.server.request_state",
                "web.server.Answer",
                "web.server.ErrorAnswer",
                "web.server.FieldProblem",
                "web.api.reading.raw_body",
                "web.server.BoundedMap",
            ),
        ),
        Subject(
            "Settings",
            ("web.settings.Settings", "web.settings.MailSender", "web.settings.is_loopback"),
            "What the variables mean: [settings](../../settings.md).",
        ),
        Subject(
            "Mail",
            (
                "web.mail.mails.Mails",
                "web.mail.templates.SecurityAlert",
                "web.mail.templates.MagicLink",
                "web.mail.templates.Ticket",
                "web.mail.templates.TICKET",
                "web.mail.words.Picture",
                "web.mail.words.BadMail",
                "web.mail.words.parse_address",
            ),
            "How it is set up: [mail](../../../how_to/mail.md).",
        ),
        Subject(
            "Pictures of codes",
            ("web.views.picture_of", "web.views.PictureView", "web.views.svg_of"),
        ),
        Subject(
            "Sockets of one's own",
            (
                "web.realtime.Outlet",
                "web.realtime.Policy",
                "web.realtime.CloseCode",
                "web.realtime.socket.endpoint.deny",
                "web.realtime.socket.endpoint.wire_of",
                "web.realtime.socket.outlet.FLUSH_S",
                "web.server.Wire",
                "web.server.Frame",
                "web.server.ping_frame",
            ),
            "Below [topics](../web_app/topics-and-commands-on-them.md), which most programs want.",
        ),
        Subject(
            "Calls to other services",
            ("web.routing.outward.ask", "web.routing.outward.NoAnswer"),
        ),
        Subject(
            "Who is signed in",
            (
                "web.server.SignedIn",
                "web.server.quart_app.Identify",
                "web.routing.errors.NotSignedIn",
                "web.accounts.identity.Identity",
                "web.accounts.identity.SignInCookie",
                "web.accounts.identity.new_token",
            ),
        ),
        Subject(
            "Accounts and their sign-ins",
            (
                "actors.accounts.Accounts",
                "actors.accounts.NewSignIn",
                "actors.accounts.SessionId",
                "actors.accounts.SIGN_IN_KEPT",
                "actors.accounts.browser_family",
            ),
        ),
        Subject(
            "Signing people in by a link",
            (
                f"{_LINKS}.NewLink",
                f"{_LINKS}.LinkClaim",
                f"{_LINKS}.Newcomer",
                f"{_LINKS}.LINK_KEPT",
                f"{_LINKS}.digest_of",
                f"{_LINKS}.mailbox_of",
                f"{_LINKS}.newcomer_names",
                f"{_LINKS}.send_limit",
                f"{_LINKS}.mailbox_limit",
                f"{_LINKS}.redeem_limit",
                "actors.accounts.Limit",
                "actors.accounts.Allowed",
                "web.routing.quota.address_key",
            ),
        ),
        Subject(
            "Commands of one's own",
            (
                "web.cli.answering.answer",
                "web.cli.answering.Teller",
                "web.cli.opening.open_store",
                "web.observability.CommandFailed",
                "web.observability.Code",
            ),
        ),
    ),
    words=("web.server.edge.span.TellBegin", "web.server.edge.span.TellSpan"),
    packages=(),
)
