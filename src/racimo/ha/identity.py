"""Who this node is and where its store is, from ``node.json``; noticed when it changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.ha.clock import Clock

log = structlog.get_logger()

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What HA needs of it. A node that stands alone (``clustered`` false) has no HA."""

    name: str
    clustered: bool
    endpoints: tuple[str, ...]
    id: str = ""
    address: str = ""


_adapter = TypeAdapter(Identity)


class IdentityFile:
    """Looks at the file once a second: that is soon enough for a join, and asks nothing of the kernel."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    def read(self) -> Identity | None:
        """The identity; None while there is none, or while it is not one."""
        try:
            return _adapter.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            log.warning("not an identity", path=str(self._path), why=str(error))
            return None

    async def clustered(self) -> Identity:
        """Wait until this node is part of a cluster."""
        while True:
            identity = self.read()
            if identity is not None and identity.clustered:
                return identity
            await self._clock.sleep(LOOK_S)

    async def changed(self, identity: Identity) -> None:
        """Wait until the file says something else than ``identity``."""
        stamp = self._stamp()
        while True:
            await self._clock.sleep(LOOK_S)
            if self._stamp() != stamp:
                stamp = self._stamp()
                if self.read() != identity:
                    return

    def _stamp(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_ino
