"""From a request to a reply: find the row, let in or not, forward or bind the parameters and call the handler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from racimo.api.context import Context, Origin
from racimo.api.endpoint import Access, Answers, Endpoint, Match
from racimo.api.forward import forward
from racimo.api.parameters import bind
from racimo.api.responses import Reply, failure, success
from racimo.errors import NotLoggedIn, OperationFailed, RacimoError, Unauthorised

if TYPE_CHECKING:
    from racimo.api.context import Who
    from racimo.api.endpoint import Table
    from racimo.api.incoming import Incoming
    from racimo.api.services import Services

_log = structlog.get_logger()


class Dispatcher:
    """Answers requests with the rows of ``table`` and the services of this node. Never raises but when cancelled."""

    def __init__(self, table: Table, services: Services) -> None:
        self.table, self.services = table, services

    async def answer(self, incoming: Incoming) -> Reply:
        """The reply, errors included."""
        try:
            return await self._answer(incoming)
        except RacimoError as error:
            return failure(error, extjs=incoming.extjs)
        except Exception as error:  # noqa: BLE001 - logged with its trace, and told to who asked
            _log.exception("a request failed in a way nobody foresaw", method=incoming.method, path=incoming.path)
            why = f"{type(error).__name__}: {error}"
            todo = f"Report it with the journal of racimo-node on {self.services.node_name}"
            return failure(OperationFailed("An error nobody foresaw", why=why, todo=todo), extjs=incoming.extjs)

    async def _answer(self, incoming: Incoming) -> Reply:
        match = self._matched(incoming)
        admit(match.endpoint, incoming.who)
        node = self._other_node(match)
        if node is not None:
            return await forward(self.services.peers, node, incoming, match.endpoint.timeout)
        bound = bind(match.endpoint.parameters, incoming.given(), match.parameters)
        context = Context(incoming.who, self.services)
        limit = asyncio.timeout(match.endpoint.timeout)
        try:
            async with limit:
                result = await match.endpoint.handler(context, bound)
                if incoming.method != "GET":
                    await self.services.caught_up()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise OperationFailed(
                f"got timeout: {incoming.method} {match.endpoint.path}",
                why=f"it took longer than {match.endpoint.timeout:g} s",
                todo=f"See the journal of racimo-node on {self.services.node_name}",
            ) from error
        return success(result, extjs=incoming.extjs)

    def _matched(self, incoming: Incoming) -> Match:
        try:
            return self.table.match(incoming.method, incoming.path)
        except RacimoError:
            _known(incoming.who)  # who is not logged in does not learn which paths there are
            raise

    def _other_node(self, match: Match) -> str | None:
        """The node to forward to; None when this one answers."""
        if match.endpoint.answers is Answers.ANY:
            return None
        if match.parameters["node"] == "localhost":
            match.parameters["node"] = self.services.node_name
        node = match.parameters["node"]
        return None if node == self.services.node_name else node


def admit(endpoint: Endpoint, who: Who) -> None:
    """Let ``who`` in or raise ``NotLoggedIn`` or ``Unauthorised``. Root and the nodes may do everything."""
    access = endpoint.permission.access
    if access is Access.NOBODY:
        return
    _known(who)
    if who.is_node:
        return
    if access is Access.NODES:
        raise Unauthorised(
            f"Permission check failed ({endpoint.path})", why="only nodes of the datacenter may ask this"
        )
    if access is Access.PRIVILEGE and who.origin is Origin.NETWORK:
        raise Unauthorised(f"Permission check failed ({endpoint.permission})", why="users have no privileges yet")


def _known(who: Who) -> None:
    if not who.user:
        raise NotLoggedIn(
            "No ticket", why="this request comes without a login",
            todo="Ask as root on the node itself, or with a certificate of one of the datacenter's nodes",
        )  # fmt: skip
