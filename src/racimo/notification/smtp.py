"""Mail through a mail server, by the standard library's client in a thread of its own.

The thread is a daemon thread: a server that never answers holds up neither the event loop nor the daemon's end.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import threading
from typing import TYPE_CHECKING

import structlog

from racimo.model.notification import MailSecurity
from racimo.notification.mail import as_mail
from racimo.notification.undelivered import Undelivered

if TYPE_CHECKING:
    from email.message import EmailMessage

    from racimo.model.notification import Message, Target

log = structlog.get_logger()

PORTS = {MailSecurity.INSECURE: 25, MailSecurity.STARTTLS: 587, MailSecurity.TLS: 465}
STEP_S = 10.0
"""How long the server may take for one step of the conversation."""
REFUSED_FROM = 500
"""An SMTP reply of 5xx is final (RFC 5321, 4.2.1)."""
OWN_AUTHORITY = (
    "If your own authority signed its certificate, on each node put that into /usr/local/share/ca-certificates and run "
    "update-ca-certificates"
)


async def send_by_smtp(message: Message, target: Target, datacenter: str, host: str, timeout: float) -> None:
    """Send it within ``timeout`` seconds. Raises ``Undelivered``."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    mail = as_mail(message, target, datacenter, host)
    outcome: list[Undelivered | None] = []

    def work() -> None:
        outcome.append(_send(mail, target))
        if not loop.is_closed():
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, name=f"mail to {target.name}", daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            await done.wait()
    except TimeoutError:
        raise Undelivered(f"{target.server} did not take the mail within {timeout:g} s") from None
    if outcome[0] is not None:
        raise outcome[0]


def _send(mail: EmailMessage, target: Target) -> Undelivered | None:
    where = f"{target.server}:{target.port or PORTS[target.mode]}"
    try:
        client = _connected(target)
        try:
            if target.username:
                _log_in(client, target)
            refused = client.send_message(mail, to_addrs=list(target.mailto))
        finally:
            _leave(client)
    except Undelivered as failure:
        return Undelivered(f"{where} {failure.why}", refused=failure.refused)
    except smtplib.SMTPRecipientsRefused as error:
        return _refusal(where, error.recipients)
    except smtplib.SMTPResponseException as error:
        return Undelivered(f"{where} says {_words(error)}", refused=error.smtp_code >= REFUSED_FROM)
    except ssl.SSLCertVerificationError as error:
        return Undelivered(f"{where} is not trusted: {error.verify_message}. {OWN_AUTHORITY}")
    except ssl.SSLError as error:
        return Undelivered(f"{where} does not speak TLS as '--mode {target.mode}' has it: {error.reason or error}")
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Undelivered(f"{where}: {error or type(error).__name__}")
    if refused:  # the others have had it: it is not sent again
        log.warning("some recipients of a notification were refused", why=_refusal(where, refused).why)
    return None


def _connected(target: Target) -> smtplib.SMTP:
    port = target.port or PORTS[target.mode]
    if target.mode is MailSecurity.TLS:
        return smtplib.SMTP_SSL(target.server, port, timeout=STEP_S, context=ssl.create_default_context())
    client = smtplib.SMTP(target.server, port, timeout=STEP_S)
    if target.mode is MailSecurity.STARTTLS:
        try:
            client.starttls(context=ssl.create_default_context())
        except (OSError, smtplib.SMTPException):
            client.close()
            raise
    return client


def _log_in(client: smtplib.SMTP, target: Target) -> None:
    try:
        client.login(target.username, target.password)
    except smtplib.SMTPAuthenticationError as error:
        why = f"does not accept the login of '{target.username}': {_words(error)}"
        raise Undelivered(why, refused=error.smtp_code >= REFUSED_FROM) from error
    except smtplib.SMTPNotSupportedError as error:
        safe = "" if target.mode is not MailSecurity.INSECURE else "; many do so over TLS alone: see --mode"
        raise Undelivered(f"takes no login, though there is a username{safe}", refused=True) from error


def _words(error: smtplib.SMTPResponseException) -> str:
    said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
    return f"{error.smtp_code} {said}"


def _leave(client: smtplib.SMTP) -> None:
    """Say goodbye. How the server takes that says nothing about the mail, which it has taken or not."""
    try:
        client.quit()
    except (OSError, smtplib.SMTPException):
        client.close()


def _refusal(where: str, recipients: dict[str, tuple[int, bytes]]) -> Undelivered:
    """Who was refused, and why."""
    words = [f"{name}: {code} {said.decode(errors='replace')}" for name, (code, said) in sorted(recipients.items())]
    final = all(code >= REFUSED_FROM for code, _ in recipients.values())
    return Undelivered(f"{where} refuses {'; '.join(words)}", refused=final)
