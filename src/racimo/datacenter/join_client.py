"""Asking a member over HTTPS, sure that it is one: the authority in the chain it presents must have the fingerprint.

The first connection, over which nothing is said, fetches the chain; the second trusts that authority alone.
"""

from __future__ import annotations

import asyncio
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import aiohttp
from pydantic import JsonValue, TypeAdapter, ValidationError

from racimo.datacenter.authority import fingerprint
from racimo.datacenter.host import url
from racimo.datacenter.join_message import CHECK, GRANT, REQUEST, JoinCheck, JoinGrant, JoinRequest
from racimo.errors import Refused, Unreachable
from racimo.task.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

API_PORT = 8006
CONNECT_S, ANSWER_S = 5.0, 30.0
PATH = "/api2/json/racimo/join/"
JSON: Final = {"Content-Type": "application/json"}
_BODY: Final[TypeAdapter[dict[str, JsonValue]]] = TypeAdapter(dict[str, JsonValue])
_FAILURE: Final = TypeAdapter(Failure)


class JoinClient(Protocol):
    """What a joining machine needs of a member. Raises what the member refused with, or ``Unreachable``."""

    async def check(self, request: JoinRequest) -> JoinCheck:
        """See ``admit.handle_check``."""

    async def commit(self, request: JoinRequest) -> JoinGrant:
        """See ``admit.handle_commit``. ``Unreachable.may_have_acted``: ask again with the same request."""


class HttpsJoinClient:
    """``JoinClient`` to the first of ``addresses`` that answers and is of the authority with ``pin`` as fingerprint."""

    def __init__(self, addresses: Sequence[str], pin: str, port: int = API_PORT) -> None:
        self.addresses, self.pin, self.port = tuple(addresses), pin, port
        self._found: tuple[str, str] | None = None

    async def check(self, request: JoinRequest) -> JoinCheck:
        return await self._ask("check", request, CHECK)

    async def commit(self, request: JoinRequest) -> JoinGrant:
        return await self._ask("commit", request, GRANT)

    async def _ask(self, verb: str, request: JoinRequest, answer: TypeAdapter[T]) -> T:
        if self._found is None:
            self._found = await self._find_member()
        address, ca = self._found
        trust = ssl.create_default_context(cadata=ca)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self._url(address, verb), data=REQUEST.dump_json(request), headers=JSON, ssl=trust
                ) as response,
            ):
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._found = None
            raise Unreachable(
                f"The member at {address} did not answer the request to join",
                why=str(error) or f"no answer within {ANSWER_S:.0f} s",
                todo="Join again with the same text",
                may_have_acted=not isinstance(error, aiohttp.ClientConnectorError),
            ) from error
        return _read_answer(address, response.status, response.reason or "", body, answer)

    async def _find_member(self) -> tuple[str, str]:
        """Address and authority (PEM) of the first that is of this cluster."""
        said: list[str] = []
        for address in self.addresses:
            try:
                chain = await self._chain(address)
            except (OSError, TimeoutError, Unreachable) as error:
                said.append(f"{address}: {error or 'no answer'}")
                continue
            for certificate in chain:
                if fingerprint(certificate) == self.pin:
                    return address, ssl.DER_cert_to_PEM_cert(certificate)
            said.append(f"{address}: it shows another authority's certificate than the join text names")
            raise Refused(
                "The join text is for another cluster",
                why="; ".join(said),
                todo="Make a new text on a member of the right one",
            )
        raise Unreachable(
            "No member of the cluster could be reached",
            why="; ".join(said) or "the join text names no address",
            todo=f"See that this machine reaches port {self.port} of one of them",
        )

    async def _chain(self, address: str) -> list[bytes]:
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address, self.port, ssl=blind)
        try:
            return presented_chain(writer.get_extra_info("ssl_object"))
        finally:
            writer.transport.abort()

    def _url(self, address: str, verb: str) -> str:
        return f"{url(address, self.port)}{PATH}{verb}"


def presented_chain(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates that the peer presented, DER, its own first."""
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return [bytes(certificate) for certificate in connection.get_unverified_chain()]
    inner = getattr(connection, "_sslobj")  # noqa: B009 - before 3.13 only the inner object tells it
    return [certificate.public_bytes(ssl_der()) for certificate in inner.get_unverified_chain() or ()]


def ssl_der() -> int:
    """The code of the DER form in the interpreter's TLS module."""
    return 2


def _read_answer(address: str, status: int, reason: str, body: bytes, answer: TypeAdapter[T]) -> T:
    """The result, or the refusal as it was raised on the member."""
    try:
        fields = _BODY.validate_json(body)
        if status == HTTPStatus.OK:
            return answer.validate_python(fields["data"])
        raise _FAILURE.validate_python(fields["racimo"]).error()
    except (ValidationError, KeyError) as error:
        raise Unreachable(
            f"The member at {address} answered something else than expected ({status} {reason})",
            why=str(error),
            todo="See that both run the same release of Racimo",
            may_have_acted=True,
        ) from error
