"""What a request over the network says about who sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.access.control import MAX_CREDENTIAL, AccessControl, Credentials
from racimo.api.context import Origin, Who
from racimo.errors import RacimoError

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from racimo.api.services import Services

COOKIE = "PVEAuthCookie"
FORM_HEADER = "CSRFPreventionToken"


def credentials(headers: CIMultiDictProxy[str], method: str) -> Credentials:
    """Those of a request; empty ones when it has none. An Authorization header goes before a cookie."""
    authorization = headers.get("Authorization", "")[:MAX_CREDENTIAL]
    return Credentials(
        ticket="" if authorization else _cookie(headers.getall("Cookie", [])),
        form_token=headers.get(FORM_HEADER, "")[:MAX_CREDENTIAL],
        authorization=authorization,
        changes=method != "GET",
    )


def asker(given: Credentials, address: str, services: Services) -> Who:
    """Somebody over the network. Who is not known is told why where a login is needed, not before."""
    if not given:
        return Who(Origin.NETWORK, address=address)
    access = services.rooms.get(AccessControl)
    if not isinstance(access, AccessControl):
        return Who(Origin.NETWORK, address=address, refusal="this node has no users yet")
    try:
        return Who(Origin.NETWORK, user=str(access.identify(given)), address=address)
    except RacimoError as error:
        return Who(Origin.NETWORK, address=address, refusal=str(error))


def _cookie(headers: list[str]) -> str:
    """The cookie's value just as it came: tickets hold characters that parsers of cookies take for something else."""
    for header in headers:
        for part in header.split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return value.strip('"')[:MAX_CREDENTIAL]
    return ""
