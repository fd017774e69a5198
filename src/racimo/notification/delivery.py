"""One try to bring a message to a target, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from racimo.errors import RacimoError
from racimo.model.notification import TargetKind
from racimo.notification.sendmail import PROGRAM, hand_to_sendmail
from racimo.notification.smtp import send_by_smtp
from racimo.notification.undelivered import Undelivered
from racimo.notification.webhook import call_webhook
from racimo.store.layout import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.model.notification import Message, Target
    from racimo.store.sealing import Sealing

TRY_S = 30.0
"""How long one try may take."""
__all__ = ["Deliver", "Delivery", "Undelivered"]


class Deliver(Protocol):
    """Raises ``Undelivered``."""

    async def __call__(self, message: Message, target: Target) -> None:
        """Bring ``message`` to ``target``, as it stands in the store, once, within ``TRY_S`` seconds."""


class Delivery:
    """By mail server, local mail program, or webhook. ``datacenter`` and ``host`` are for the mails' headers.

    Here alone a target's secrets are in the clear.
    """

    def __init__(self, datacenter: Callable[[], str], host: str, sealing: Sealing, sendmail: str = PROGRAM) -> None:
        self.datacenter, self.host, self.sealing, self.sendmail = datacenter, host, sealing, sendmail

    async def __call__(self, message: Message, target: Target) -> None:
        try:
            target = self.sealing.open_record(target_place(target.name), target)
        except RacimoError as error:
            raise Undelivered(str(error)) from error
        try:
            match target.kind:
                case TargetKind.SMTP:
                    await send_by_smtp(message, target, self.datacenter(), self.host, TRY_S)
                case TargetKind.WEBHOOK:
                    await call_webhook(message, target, TRY_S)
                case TargetKind.SENDMAIL:
                    await hand_to_sendmail(message, target, self.datacenter(), self.host, TRY_S, self.sendmail)
        except Undelivered as failure:
            why = without_secrets(failure.why, target)
            raise Undelivered(why, refused=failure.refused, passed_over=failure.passed_over) from None
        except ValueError as error:  # an address or a header that is none
            raise Undelivered(without_secrets(str(error), target), refused=True) from None


def target_place(name: str) -> str:
    """Where a target stands in the store: its secrets are sealed for that place."""
    return f"{TARGETS}{name}"


def without_secrets(text: str, target: Target) -> str:
    """``text`` with everything in it that is sealed in ``target`` blotted out."""
    sealed = [target.password, *target.headers.values(), *target.secrets.values()]
    for secret in sorted(filter(None, sealed), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
