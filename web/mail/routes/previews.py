"""All templates of mail with sample data, for who writes them, on this machine only (MAIL-9)."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid5

from quart import Blueprint, Response

from web.mail.mails import KEYS
from web.mail.message import bytes_of
from web.mail.templates import TEMPLATES, Context, MailTemplates, Rendered, Template
from web.mail.words import Mail, MailAddress
from web.routing import paths
from web.routing.errors import NoSuchThing
from web.routing.services import Services
from web.server import current_request_state
from web.site.pages import PAGE_MAIL, form_response, shell
from web.views import MailPreview, MailPreviewsPage, local_path

# Of nobody: a domain that is set aside for examples (RFC 2606).
SENDER = MailAddress("greenroom@greenroom.example", "Greenroom")
READER = "ada@greenroom.example"
_BY_NAME: dict[str, Template[Context]] = {one.name: one for one in TEMPLATES}  # type: ignore[misc]  # reason: each is of its own context


def preview_routes(services: Services, now: Callable[[], datetime], *, is_desk: bool) -> Blueprint:
    """Call this to get the routes; they answer 404 to all but who sits at a site's own machine."""
    routes, templates = Blueprint("mail_previews", __name__), MailTemplates()

    async def check() -> Response | None:
        if not (is_desk and current_request_state().is_near):
            raise NoSuchThing("templates of mail are shown on this machine only")
        return None

    routes.before_request(check)

    @routes.get(paths.DEV_MAIL)
    async def all_of_them() -> Response:
        page = MailPreviewsPage(
            shell(services, current_request_state(), "Mail", PAGE_MAIL),
            tuple(
                _preview(template.name, templates.render(template, template.sample, language))
                for template in _BY_NAME.values()
                for language in templates.languages(template.name)
            ),
        )
        return form_response(services.renderer.mail_previews_page(page))

    @routes.get(paths.DEV_MAIL_ONE)
    async def one(language: str, name: str) -> Response:
        # The whole mail, as a reader's program opens it.
        template = _BY_NAME.get(name)
        if template is None or language not in templates.languages(name):
            raise NoSuchThing("no such template")
        said = templates.render(template, template.sample, language)
        mail = Mail(READER, name, said.language, said.subject, said.text, said.html)
        data = bytes_of(mail, uuid5(KEYS, name), SENDER, now())
        headers = {
            "cache-control": "no-store",
            "content-disposition": f'attachment; filename="{name}.{language}.eml"',
        }
        return Response(data, content_type="message/rfc822", headers=headers)

    return routes


def _preview(name: str, said: Rendered) -> MailPreview:
    whole = local_path(f"{paths.DEV_MAIL}/{said.language}/{name}")
    return MailPreview(name, said.language, said.subject, said.text, said.html, whole)
