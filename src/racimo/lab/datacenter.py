"""Turns booted nodes into one datacenter, over their API as an administrator would: init, create, join, storage."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from racimo.api.client import ApiClient
from racimo.errors import OperationFailed, Unreachable
from racimo.lab.fence_agent import PASSWORD
from racimo.lab.lab import timed
from racimo.lab.together import together

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import JsonValue

    from racimo.lab.lab import Lab, Tell
    from racimo.lab.node import LabNode

NAME = "lab"
SHARED_STORAGE = "shared"
SHARED_PATH = "/srv/shared"
STEP_TIMEOUT_S = 120.0
QUORUM_TIMEOUT_S = 90.0
QUORUM_POLL_S = 0.2


@asynccontextmanager
async def api(node: LabNode) -> AsyncIterator[ApiClient]:
    """The node's API, as root of that node. Raises ``OperationFailed`` with its log when its daemon does not serve."""
    path = node.api_socket
    if not path.is_socket():
        printed = await node.execute("journalctl", "-u", "racimo-node", "-n", "12", "--no-pager", "-o", "cat")
        raise OperationFailed(f"The daemon of {node.name} does not serve its API", why=printed.out.strip()[-1500:])
    async with ApiClient.unix(path) as client:
        yield client


async def finish(client: ApiClient, answer: JsonValue, *, timeout_s: float = STEP_TIMEOUT_S) -> JsonValue:
    """Wait for the task that an answer names, if it names one; raises what it failed with."""
    if isinstance(answer, str) and answer.startswith("UPID:"):
        await client.wait_task(answer, timeout=timeout_s)
    return answer


async def make_datacenter(lab: Lab, tell: Tell) -> None:
    """``init`` everywhere, ``create`` on the first node, ``join`` on the others, and a storage that all share."""
    nodes = [node for node in lab.nodes if not node.spec.witness]
    witnesses = [node for node in lab.nodes if node.spec.witness]
    with timed(tell, f"racimo init on {_names(nodes)}"):
        await together(*(_initialise(node) for node in nodes))
    first = nodes[0]
    if len(nodes) > 1:
        with timed(tell, f"{first.name}: racimo cluster create {NAME} --link {first.address()}"):
            async with api(first) as client:
                await finish(client, await client.post("/cluster/config", clustername=NAME, link0=first.address()))
        for node in nodes[1:]:
            with timed(tell, f"{node.name}: racimo cluster join TEXT --link {node.address()}"):
                await _join(first, node)
    for node in witnesses:
        with timed(tell, f"{node.name}: racimo cluster witness TEXT --link {node.address()}"):
            await _witness(first, node)
    with timed(tell, f"racimo storage add {SHARED_STORAGE} (directory {SHARED_PATH}, on every node)"):
        async with api(first) as client:
            storage: dict[str, JsonValue] = {"storage": SHARED_STORAGE, "type": "dir", "path": SHARED_PATH, "shared": 1}
            await client.post("/storage", {**storage, "content": "images,import"})
    with timed(tell, f"quorum of {len(lab.nodes)}" if len(nodes) > 1 else "one node, standing alone"):
        try:
            await await_quorum(first, len(lab.nodes))
        except Unreachable as error:
            logs = [await _last_of(node) for node in lab.nodes]
            raise Unreachable(error.what, why="\n".join([error.why, *logs]), todo="Try again: racimo lab up") from None


async def add_fence_devices(lab: Lab, tell: Tell) -> None:
    """A fence device for every node that runs guests: the lab's own, which ``racimo lab fence`` can make fail.

    What it cut stays off until ``racimo lab start``.
    """
    nodes = [node for node in lab.nodes if not node.spec.witness]
    with timed(tell, f"racimo ha fence add NODE fence_racimo_lab plug=NODE, for {_names(nodes)}"):
        async with api(nodes[0]) as client:
            for node in nodes:
                await client.post(
                    "/racimo/ha/fence/devices",
                    node=node.name, agent="fence_racimo_lab", name=f"{node.name}-lab", options={"plug": node.name},
                    secrets={"password": PASSWORD}, power_on=False,
                )  # fmt: skip


async def _initialise(node: LabNode) -> None:
    async with api(node) as client:
        await finish(client, await client.post("/racimo/init", name=node.name, address=node.address()))


async def _join(first: LabNode, node: LabNode) -> None:
    async with api(first) as client:
        text = await client.post("/racimo/join-info")
    async with api(node) as client:
        await finish(client, await client.post("/cluster/config/join", text=text, link0=node.address()))


async def _witness(first: LabNode, node: LabNode) -> None:
    async with api(first) as client:
        text = await client.post("/racimo/join-info", witness=1)
    async with api(node) as client:
        answer = await client.post("/racimo/witness", text=text, link0=node.address(), name=node.name)
        await finish(client, answer)


async def await_quorum(node: LabNode, members: int) -> None:
    """Wait until the node sees that many members, a quorum, and all the votes that so many can have.

    Raises ``Unreachable`` with what it saw last.
    """
    seen: JsonValue = None
    try:
        async with asyncio.timeout(QUORUM_TIMEOUT_S), api(node) as client:
            while not _quorate(seen := await client.get("/cluster/status"), members):  # noqa: ASYNC110
                await asyncio.sleep(QUORUM_POLL_S)
    except TimeoutError:
        what = f"{node.name} saw no quorum of {members} within {QUORUM_TIMEOUT_S:.0f} s"
        raise Unreachable(what, why=f"its last answer was {seen}") from None


def _quorate(status: JsonValue, members: int) -> bool:
    entries = [entry for entry in status if isinstance(entry, dict)] if isinstance(status, list) else []
    nodes = [entry for entry in entries if entry.get("type") == "node"]
    clusters = [entry for entry in entries if entry.get("type") == "cluster"]
    votes = 5 if members >= 5 else 3 if members >= 3 else 1
    return len(nodes) >= members and all(
        cluster.get("quorate") == 1 and cluster.get("votes_present") == votes for cluster in clusters
    )


async def _last_of(node: LabNode) -> str:
    """The end of a node's log, of the daemons that make a quorum."""
    shown = await node.execute(
        "journalctl", "-u", "racimo-node", "-u", "racimo-etcd", "-n", "15", "--no-pager", "-o", "short"
    )
    return f"{node.name} logged last:\n{shown.out.strip()}"


def _names(nodes: list[LabNode]) -> str:
    return ", ".join(node.name for node in nodes)
