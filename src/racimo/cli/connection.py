"""The connection to a node, over its socket. Apart, because the client is heavy to import and help needs none."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from racimo.api.client import ApiClient
from racimo.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[Session]:
    """A session with the node behind ``socket``. Nothing is sent before the first request."""
    async with ApiClient.unix(socket) as client:
        yield Session(client, socket)
