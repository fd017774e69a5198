"""Every change and every refusal goes to the audit log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from racimo.access.audit import MAX_VALUE, AuditLog, Deed, told
from racimo.errors import BadRequest

if TYPE_CHECKING:
    from racimo.api.incoming import Incoming
    from racimo.api.services import Services

REFUSED = (401, 403)


def audit(incoming: Incoming, code: int, outcome: str, services: Services) -> None:
    """Note it, if there is something to note. What nodes ask of each other in their own name is not."""
    log = services.rooms.get(AuditLog)
    who = incoming.who
    if not isinstance(log, AuditLog) or (who.is_node and who.node):
        return
    if incoming.method == "GET" and code not in REFUSED:
        return
    try:
        about = told(incoming.given())
    except BadRequest:
        about = {}
    log.note(
        Deed(
            at=round(time.time(), 3), user=who.asker.user, token=who.asker.token, address=who.address,
            method=incoming.method, path=incoming.path[:MAX_VALUE], code=code, outcome=outcome[:MAX_VALUE],
            origin=str(who.origin), via=incoming.forwarded_by, about=about,
        )
    )  # fmt: skip
