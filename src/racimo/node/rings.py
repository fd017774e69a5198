"""The sealing keys of the other nodes, asked for over mutual TLS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from racimo.errors import NotFound, NotImplementedHere, RacimoError
from racimo.store.sealing import RING, Keyring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.api.peers import Peers

log = structlog.get_logger()


class RingsOfPeers:
    """``KeyHolders`` by the API."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def rings(self, timeout: float) -> Mapping[str, Keyring | None]:
        """Each other node's, all asked at once. A node whose release knows nothing of it holds no key."""
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(self._ask(name, timeout)) for name in self._peers.names}
        return {name: task.result() for name, task in asked.items()}

    async def _ask(self, name: str, timeout: float) -> Keyring | None:
        try:
            return RING.validate_python(await self._peers.call(name, "GET", "/racimo/sealing", timeout=timeout))
        except (NotImplementedHere, NotFound):
            return Keyring()
        except ValidationError:
            log.warning("a node's sealing keys are none", node=name)  # without its words: they might show one
            return Keyring()
        except RacimoError as error:
            log.info("a node was not asked for its sealing keys", node=name, why=str(error))
            return None
