"""The bytes of a mail: its headers, a text part and an HTML part, in lines that any server takes.

Pure: the same mail and time give the same bytes. `Message-ID` comes from the message's id, so a
second copy has the same one; `Date` is that of the sending.
"""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import UUID

from web.mail.words import BadMail, Mail, MailAddress, check_line


def message_id_header(message_id: UUID, sender: MailAddress) -> str:
    """Call this for the `Message-ID` of a mail: the same for each copy of it."""
    return f"<{message_id}@{ascii_domain(sender.address)}>"


def ascii_domain(address: str) -> str:
    """Call this for the domain of an address as it goes over the wire."""
    domain = address.partition("@")[2]
    return domain if domain.isascii() else domain.encode("idna").decode("ascii")


def wire_address(address: str) -> str:
    """Call this for an address as it goes over the wire: its domain in ASCII."""
    return f"{address.partition('@')[0]}@{ascii_domain(address)}"


def needs_utf8(mail: Mail, sender: MailAddress) -> bool:
    """Call this to learn whether only a server that takes any letters in addresses takes it."""
    return not (wire_address(mail.to) + wire_address(sender.address)).isascii()


def bytes_of(mail: Mail, message_id: UUID, sender: MailAddress, now: datetime) -> bytes:
    """Call this for what a server is given, lines ended by CR LF; raises `BadMail`."""
    for field, text in (("to", mail.to), ("subject", mail.subject), ("from", sender.address)):
        check_line(field, text)
    message = EmailMessage(policy=SMTP.clone(utf8=needs_utf8(mail, sender)))
    try:
        message["From"] = _named(sender.address, sender.name)
        message["To"] = _named(mail.to)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(now)
        message["Message-ID"] = message_id_header(message_id, sender)
        message["Auto-Submitted"] = "auto-generated"
        message["X-Auto-Response-Suppress"] = "All"
        message["Content-Language"] = mail.language
        if mail.unsubscribe:
            message["List-Unsubscribe"] = f"<{mail.unsubscribe}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(mail.text, cte="quoted-printable")
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        message.set_boundary(f"=_{message_id.hex}")
        return message.as_bytes()
    except (ValueError, IndexError, UnicodeError) as error:
        # Whatever the library makes of it, its words may quote the mail.
        raise BadMail("message", f"cannot be written ({type(error).__name__})") from error


def _named(address: str, name: str = "") -> Address:
    return Address(name, address.partition("@")[0], ascii_domain(address))
