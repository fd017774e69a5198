"""A message as a mail."""

from __future__ import annotations

import re
from email.message import EmailMessage
from email.utils import formataddr, formatdate
from typing import TYPE_CHECKING

from racimo.model.notification import Severity

if TYPE_CHECKING:
    from racimo.model.notification import Message, Target

_URGENT = (Severity.ERROR,)


def as_mail(message: Message, target: Target, datacenter: str, host: str) -> EmailMessage:
    """The mail, with the same Message-ID at each try; what is over answers what began (RFC 5322, 3.6.4)."""
    mail = EmailMessage()
    sender = target.from_address or f"root@{host}"
    mail["Subject"] = _line(f"[{datacenter}] {message.title}")
    mail["From"] = formataddr((_line(target.author or f"Racimo {datacenter}"), sender))
    mail["To"] = ", ".join(target.mailto)
    mail["Date"] = formatdate(message.at)
    place = re.sub(r"[^A-Za-z0-9-]", "-", datacenter)
    mail["Message-ID"] = f"<{message.id}@{place}.racimo>"  # whichever node tries
    if message.about:
        mail["In-Reply-To"] = mail["References"] = f"<{message.about}@{place}.racimo>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answer comes back
    mail["X-Racimo-Severity"] = str(message.severity)
    mail["X-Racimo-Type"] = str(message.type)
    if message.severity in _URGENT:
        mail["X-Priority"] = "1"
    facts = "".join(f"{name}: {value}\n" for name, value in sorted(message.fields.items()))
    mail.set_content(f"{message.text}\n\n-- \n{facts}noticed by: {message.by}\n")
    return mail


def _line(text: str) -> str:
    """On one line: a line break in a header would begin another one."""
    return " ".join(text.split())
