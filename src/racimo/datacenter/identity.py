"""``/etc/racimo/node.json``: who this node is, and where its store is. Replacing it is what makes a node clustered."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from racimo.datacenter.atomic_file import replace_file
from racimo.errors import BadParameter, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.model.paths import NodePaths

NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
AFTER_REMOVAL = "Run here: racimo cluster leave --force; then join again"
CLUSTER_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,13}[a-zA-Z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``endpoints`` are the client URLs of the store's members; empty while the node stands alone on SQLite."""

    name: str
    id: str
    address: str
    clustered: bool = False
    endpoints: tuple[str, ...] = ()

    @property
    def removed(self) -> str:
        """What is to be said where the datacenter's records name no such node."""
        return f"it was removed from the datacenter, or replaced: no node '{self.name}' has the id {self.id}"


_ADAPTER = TypeAdapter(Identity)


def identity_path(paths: NodePaths) -> Path:
    """Where the identity is kept."""
    return paths.etc / "node.json"


def find_identity(paths: NodePaths) -> Identity | None:
    """The node's identity, or None before ``racimo init``. Raises ``Refused`` when the file cannot be read as one."""
    path = identity_path(paths)
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Refused(
            f"{path} is not a node's identity",
            why="; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()),
            todo="Restore it from a backup, or remove this node from the cluster and join anew",
        ) from error


def read_identity(paths: NodePaths) -> Identity:
    """The node's identity; ``Refused`` before ``racimo init``."""
    identity = find_identity(paths)
    if identity is None:
        raise Refused(
            "This machine is not a Racimo node yet",
            why=f"{identity_path(paths)} does not exist",
            todo="Run: racimo init",
        )
    return identity


def write_identity(paths: NodePaths, identity: Identity) -> None:
    """Replace the identity in one step."""
    replace_file(identity_path(paths), _ADAPTER.dump_json(identity, indent=1) + b"\n")


def new_id() -> str:
    """An id for a node or a datacenter: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def check_node_name(name: str) -> str:
    """``name`` if it can name a node (one DNS label); else ``BadParameter``."""
    if not NAME.fullmatch(name):
        raise BadParameter({"node": f"'{name}' is not one DNS label (letters, digits, hyphens; at most 63)"})
    return name


def check_cluster_name(name: str) -> str:
    """``name`` if it can name a cluster (at most 15 characters, as in the Proxmox VE API); else ``BadParameter``."""
    if not CLUSTER_NAME.fullmatch(name):
        raise BadParameter({"clustername": f"'{name}' is not 1 to 15 letters, digits and hyphens"})
    return name
