"""How a node asks another during a migration: handed in, so that this room knows no HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue


class Peer(Protocol):
    """Calls to the other nodes of the datacenter."""

    async def call(
        self,
        node: str,
        method: str,
        path: str,
        parameters: Mapping[str, JsonValue] | None = None,
        *,
        timeout: float = 30.0,
    ) -> JsonValue:
        """Call ``/api2/json`` + ``path`` on ``node`` and return the JSON result; ``timeout`` in seconds.

        Raises the ``RacimoError`` with which the other node answered, or ``Unreachable``.
        """
