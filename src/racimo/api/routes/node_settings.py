"""Settings of a node's machine: name servers, time zone, hosts file, and notes about the node."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode
from racimo.errors import NotFound
from racimo.machine.files import demand_unchanged, digest, read_text, replace_text
from racimo.machine.resolver import Resolver, read_resolver, write_resolver
from racimo.machine.wake import check_mac
from racimo.machine.zone import read_zone, write_zone

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.node import Node

AUDIT = privilege("/nodes/{node}", "Sys.Audit")
MODIFY = privilege("/nodes/{node}", "Sys.Modify")
MAX_HOSTS = 64 << 10
"""Characters of a hosts file."""

routes = Routes()


class Dns(OfNode):
    """Name servers; what is not given stays, and servers that are given take the place of all."""

    search: Annotated[str | None, Field(description="The domain that is added to short names.")] = None
    dns1: Annotated[str, Field(description="Address of the first name server.")] = ""
    dns2: Annotated[str, Field(description="Address of the second.")] = ""
    dns3: Annotated[str, Field(description="Address of the third.")] = ""


class Zone(OfNode):
    """A time zone."""

    timezone: Annotated[str, Field(description="Its name, such as Europe/Madrid.")]


class Hosts(OfNode):
    """A hosts file."""

    data: Annotated[str, Field(max_length=MAX_HOSTS, description="The whole text of /etc/hosts.")]
    digest: Annotated[str, Field(description="Only if the file still has this digest.")] = ""


class NodeConfig(OfNode):
    """Notes about a node."""

    description: Annotated[str | None, Field(max_length=65536, description="For people.")] = None
    wakeonlan: Annotated[str | None, Field(description="MAC address that wakes the machine.")] = None
    delete: Annotated[tuple[str, ...], Field(description="Settings to take away.")] = ()
    digest: Annotated[str, Field(description="Only if the settings still have this digest.")] = ""


@routes.add(
    "GET", "/nodes/{node}/dns", permission=AUDIT, answers=Answers.NODE, parameters=OfNode,
    summary="A node's name servers",
)  # fmt: skip
async def get_dns(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """Only what is set."""
    found = await asyncio.to_thread(read_resolver, _resolver_file(context))
    shown: dict[str, JsonValue] = {"search": found.search} if found.search else {}
    return {**shown, **{f"dns{number}": server for number, server in enumerate(found.servers, 1)}}


@routes.add(
    "PUT", "/nodes/{node}/dns", permission=MODIFY, answers=Answers.NODE, parameters=Dns,
    summary="Change a node's name servers",
)  # fmt: skip
async def change_dns(context: Context, parameters: Dns) -> None:
    """In force for whatever asks from now on."""
    file = _resolver_file(context)
    old = await asyncio.to_thread(read_resolver, file)
    given = tuple(server for server in (parameters.dns1, parameters.dns2, parameters.dns3) if server)
    search = old.search if parameters.search is None else parameters.search
    await asyncio.to_thread(write_resolver, file, Resolver(search, given or old.servers))


@routes.add(
    "GET", "/nodes/{node}/time", permission=AUDIT, answers=Answers.NODE, parameters=OfNode,
    summary="A node's clock and time zone",
)  # fmt: skip
async def get_time(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """``time`` in seconds since the epoch; ``localtime`` so that read as UTC it shows the node's wall clock."""
    zone, now = await asyncio.to_thread(read_zone, context.services.paths.root), int(time.time())
    try:
        offset = datetime.fromtimestamp(now, ZoneInfo(zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError):
        offset = None
    return {"timezone": zone, "time": now, "localtime": now + (int(offset.total_seconds()) if offset else 0)}


@routes.add(
    "PUT", "/nodes/{node}/time", permission=MODIFY, answers=Answers.NODE, parameters=Zone,
    summary="Change a node's time zone",
)  # fmt: skip
async def change_time(context: Context, parameters: Zone) -> None:
    """Services that run keep the zone that they started with."""
    await asyncio.to_thread(write_zone, context.services.paths.root, parameters.timezone)


@routes.add(
    "GET", "/nodes/{node}/hosts", permission=AUDIT, answers=Answers.NODE, parameters=OfNode,
    summary="A node's /etc/hosts",
)  # fmt: skip
async def get_hosts(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """The text, with the digest to send back when it is changed."""
    text = await asyncio.to_thread(read_text, _hosts_file(context))
    return {"data": text, "digest": digest(text)}


@routes.add(
    "POST", "/nodes/{node}/hosts", permission=MODIFY, answers=Answers.NODE, parameters=Hosts,
    summary="Replace a node's /etc/hosts",
)  # fmt: skip
async def change_hosts(context: Context, parameters: Hosts) -> None:
    """As a whole: who reads it sees the old text or the new."""
    file = _hosts_file(context)
    demand_unchanged(await asyncio.to_thread(read_text, file), parameters.digest)
    text = parameters.data if parameters.data.endswith("\n") else parameters.data + "\n"
    await asyncio.to_thread(replace_text, file, text)


@routes.add("GET", "/nodes/{node}/config", permission=AUDIT, parameters=OfNode, summary="Notes about a node")
async def get_config(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """Only what is set."""
    return _config(find_node(context, parameters.node))


@routes.add("PUT", "/nodes/{node}/config", permission=MODIFY, parameters=NodeConfig, summary="Change a node's notes")
async def change_config(context: Context, parameters: NodeConfig) -> None:
    """What is not given stays."""
    find_node(context, parameters.node)
    if parameters.wakeonlan:
        check_mac(parameters.wakeonlan)

    def change(node: Node) -> Node:
        demand_unchanged(_text(node), parameters.digest)
        description = node.description if parameters.description is None else parameters.description
        wakeonlan = node.wakeonlan if parameters.wakeonlan is None else parameters.wakeonlan
        return replace(
            node, description="" if "description" in parameters.delete else description,
            wakeonlan="" if "wakeonlan" in parameters.delete else wakeonlan,
        )  # fmt: skip

    await context.services.layout.nodes.update(parameters.node, change)


def find_node(context: Context, name: str) -> Node:
    """A node's record. Raises ``NotFound``."""
    known = context.services.need(Inventory).nodes()
    if name not in known:
        raise NotFound(f"node '{name}' does not exist", why=f"the datacenter has {', '.join(sorted(known))}")
    return known[name]


def _config(node: Node) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = {"description": node.description, "wakeonlan": node.wakeonlan}
    return {**{name: value for name, value in fields.items() if value}, "digest": digest(_text(node))}


def _text(node: Node) -> str:
    return f"{node.wakeonlan}\n{node.description}"


def _resolver_file(context: Context) -> Path:
    return context.services.paths.root / "etc/resolv.conf"


def _hosts_file(context: Context) -> Path:
    return context.services.paths.root / "etc/hosts"
