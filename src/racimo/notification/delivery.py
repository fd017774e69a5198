"""One try to bring a message to a target, whatever its kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from racimo.model.notification import TargetKind
from racimo.notification.sendmail import hand_to_sendmail
from racimo.notification.smtp import send_by_smtp
from racimo.notification.undelivered import Undelivered
from racimo.notification.webhook import call_webhook

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.model.notification import Message, Target

TRY_S = 30.0
"""How long one try may take."""
__all__ = ["Deliver", "Delivery", "Undelivered"]


class Deliver(Protocol):
    """Raises ``Undelivered``."""

    async def __call__(self, message: Message, target: Target) -> None:
        """Bring ``message`` to ``target``, once, within ``TRY_S`` seconds."""


class Delivery:
    """By mail server, local mail program, or webhook. ``datacenter`` and ``host`` are for the mails' headers."""

    def __init__(self, datacenter: Callable[[], str], host: str) -> None:
        self.datacenter, self.host = datacenter, host

    async def __call__(self, message: Message, target: Target) -> None:
        try:
            match target.kind:
                case TargetKind.SMTP:
                    await send_by_smtp(message, target, self.datacenter(), self.host, TRY_S)
                case TargetKind.WEBHOOK:
                    await call_webhook(message, target, TRY_S)
                case TargetKind.SENDMAIL:
                    await hand_to_sendmail(message, target, self.datacenter(), self.host, TRY_S)
        except Undelivered as failure:
            raise Undelivered(without_secrets(failure.why, target), refused=failure.refused) from None
        except ValueError as error:  # an address or a header that is none
            raise Undelivered(without_secrets(str(error), target), refused=True) from None


def without_secrets(text: str, target: Target) -> str:
    """``text`` with everything in it that is sealed in ``target`` blotted out."""
    sealed = [target.password, *target.headers.values(), *target.secrets.values()]
    for secret in sorted(filter(None, sealed), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def shown(target: Target) -> Target:
    """``target`` with nothing in it that is sealed."""
    return replace(
        target, password="", headers=dict.fromkeys(target.headers, ""), secrets=dict.fromkeys(target.secrets, "")
    )  # fmt: skip
