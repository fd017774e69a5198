"""Which version this is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo import __version__
from racimo.api.endpoint import LOGGED_IN, Routes

if TYPE_CHECKING:
    from racimo.api.context import Context
    from racimo.api.parameters import Parameters

API_LEVEL = "9.1"
"""The level of the Proxmox VE API that this one is compatible with."""

routes = Routes()


@dataclass(frozen=True, slots=True)
class Version:
    """``version`` is the API level, which clients read; ``racimo`` is our own."""

    version: str
    release: str
    repoid: str
    racimo: str


@routes.add("GET", "/version", permission=LOGGED_IN, summary="API level and version", result=Version)
async def version(context: Context, parameters: Parameters) -> Version:
    """The same on every node of one version."""
    return Version(version=API_LEVEL, release=API_LEVEL, repoid="racimo", racimo=__version__)
