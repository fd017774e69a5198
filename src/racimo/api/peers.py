"""The other nodes' APIs, over mutual TLS: for forwarding, and for rooms that need another node to act."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from racimo.api.exchange import Received, exchange, pairs
from racimo.api.responses import read_answer
from racimo.errors import Conflict, NotFound, Unreachable
from racimo.task.runner import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Mapping

    from pydantic import JsonValue

    from racimo.api.tls import TlsFiles

PREFIX = "/api2/json"
USER_HEADER = "X-Racimo-User"
"""On whose behalf a peer asks; believed only of a peer."""
FORWARDED_HEADER = "X-Racimo-Forwarded-By"
"""The node that forwards; a request that has it is not forwarded again."""


class Peers:
    """Calls to the other nodes. ``directory()`` gives each node's address and port, this one's included.

    Reads share a pool of connections. Writes make a connection of their own: one that was kept may be dead without
    our knowing, and then nobody could say whether the write was carried out.
    """

    def __init__(
        self,
        node_name: str,
        directory: Callable[[], Mapping[str, tuple[str, int]]],
        tls: TlsFiles | None = None,
    ) -> None:
        self.node_name, self._directory, self._tls = node_name, directory, tls
        self._pool: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []

    @property
    def names(self) -> list[str]:
        """The other nodes, sorted."""
        return sorted(name for name in self._directory() if name != self.node_name)

    async def call(
        self,
        node: str,
        method: str,
        path: str,
        parameters: Mapping[str, JsonValue] | None = None,
        *,
        user: str = ROOT,
        timeout: float = 30.0,
    ) -> JsonValue:
        """Ask ``node``; ``path`` is below ``/api2/json``. Raises what it raised, ``NotFound``, or ``Unreachable``."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        query, body, headers = "", None, {USER_HEADER: user}
        if method in ("POST", "PUT"):
            body, headers["Content-Type"] = json.dumps(given).encode(), "application/json"
        else:
            query = URL().with_query(pairs(given)).raw_query_string
        received = await self.send(node, method, PREFIX + path, query, headers=headers, body=body, timeout=timeout)
        answer = read_answer(received.status, received.reason, received.body)
        if answer.error is not None:
            raise answer.error
        return answer.data

    async def send(
        self,
        node: str,
        method: str,
        path: str,
        query: str,
        *,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes] | None,
        timeout: float,
    ) -> Received:
        """A request as it is, ``path`` and ``query`` escaped. Raises ``NotFound`` or ``Unreachable``."""
        if node == self.node_name:
            raise Conflict(f"Node '{node}' asked itself over the network", why="a call for it is answered here")
        place = self._directory().get(node)
        if place is None:
            known = ", ".join(sorted(self._directory()))
            raise NotFound(
                f"Node '{node}' does not exist",
                why=f"the datacenter has {known}",
                todo="See the nodes: racimo node list",
            )
        url = URL.build(scheme="https", host=place[0], port=place[1], path=path, query_string=query, encoded=True)
        session = self._session(node, pooled=method == "GET")
        return await exchange(
            session, f"Node '{node}'", method, url, timeout=timeout, headers=headers, body=body, server_hostname=node
        )

    def renew(self, tls: TlsFiles | None) -> None:
        """Use these certificates from now on; calls under way end as they began."""
        self._tls = tls
        self._retired += [session for session in (self._pool, self._single) if session is not None]
        self._pool = self._single = None

    async def close(self) -> None:
        """Close all connections."""
        self.renew(self._tls)
        while self._retired:
            await self._retired.pop().close()

    def _session(self, node: str, *, pooled: bool) -> aiohttp.ClientSession:
        if self._pool is None or self._single is None:
            if self._tls is None:
                raise Unreachable(f"Node '{node}' cannot be asked", why="this node has no certificate yet")
            context = self._tls.client_context()
            self._pool = _session(aiohttp.TCPConnector(ssl=context, limit_per_host=32))
            self._single = _session(aiohttp.TCPConnector(ssl=context, limit=0, force_close=True))
        return self._pool if pooled else self._single


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=connector, auto_decompress=False)
