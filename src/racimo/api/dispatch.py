"""From a request to a reply: find the row, let in or not, forward or bind the parameters and call the handler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from racimo.api.admission import admit, admit_class, demand_login
from racimo.api.auditing import audit
from racimo.api.context import Context
from racimo.api.endpoint import Answers, Match
from racimo.api.forward import forward
from racimo.api.parameters import bind
from racimo.api.responses import Reply, code, failure, success
from racimo.errors import BadParameter, OperationFailed, RacimoError

if TYPE_CHECKING:
    from racimo.api.endpoint import Table
    from racimo.api.incoming import Incoming
    from racimo.api.parameters import Parameters
    from racimo.api.services import Services

_log = structlog.get_logger()


class Dispatcher:
    """Answers requests with the rows of ``table`` and the services of this node. Never raises but when cancelled."""

    def __init__(self, table: Table, services: Services) -> None:
        self.table, self.services = table, services

    async def answer(self, incoming: Incoming) -> Reply:
        """The reply, errors included."""
        try:
            reply, status = await self._answer(incoming), 200
        except RacimoError as error:
            reply, status = failure(error, extjs=incoming.extjs), code(error)
        except Exception as error:  # noqa: BLE001 - logged with its trace, and told to who asked
            _log.exception("a request failed in a way nobody foresaw", method=incoming.method, path=incoming.path)
            why = f"{type(error).__name__}: {error}"
            todo = f"Report it with the journal of racimo-node on {self.services.node_name}"
            told = OperationFailed("An error nobody foresaw", why=why, todo=todo)
            reply, status = failure(told, extjs=incoming.extjs), code(told)
        audit(incoming, max(reply.status, status), reply.reason, self.services)
        return reply

    async def _answer(self, incoming: Incoming) -> Reply:
        match = self._matched(incoming)
        admit_class(match.endpoint, incoming.who)
        node = self._other_node(match)
        if node is not None:  # which looks at the privileges: it is told who asks
            if incoming.upload is not None:  # before the file crosses the network
                self._admitted(incoming, match)
            return await forward(self.services.peers, node, incoming, match.endpoint.timeout)
        bound = self._admitted(incoming, match)
        context = Context(incoming.who, self.services, incoming.upload)
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

    def _admitted(self, incoming: Incoming, match: Match) -> Parameters:
        """The parameters, of somebody who may. Who may not is told so even when the parameters are malformed."""
        given, endpoint = incoming.given(), match.endpoint
        try:
            bound = bind(endpoint.parameters, given, match.parameters)
        except BadParameter:
            admit(endpoint, incoming.who, {**given, **match.parameters}, self.services)
            raise
        admit(endpoint, incoming.who, bound.values(), self.services)
        return bound

    def _matched(self, incoming: Incoming) -> Match:
        try:
            return self.table.match(incoming.method, incoming.path)
        except RacimoError:
            demand_login(incoming.who)  # who is not logged in does not learn which paths there are
            raise

    def _other_node(self, match: Match) -> str | None:
        """The node to forward to; None when this one answers."""
        if match.endpoint.answers is Answers.ANY:
            return None
        if match.parameters["node"] == "localhost":
            match.parameters["node"] = self.services.node_name
        node = match.parameters["node"]
        return None if node == self.services.node_name else node
