"""What tests of a standing lab share: the lab, the command line inside a node, and what can be seen from outside.

A lab stands for a whole module of tests; its fixture is synchronous, so each test keeps an event loop of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import api, finish, make_datacenter
from racimo.lab.demo import IMAGE
from racimo.lab.image import guest_image
from racimo.lab.journal import read_journal
from racimo.lab.lab import make_nodes, plan_nodes
from racimo.lab.place import LabPlace
from racimo.lab.process import run
from racimo.lab.watch import await_write, guest_processes, last_acknowledgement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from racimo.lab.journal import JournalReport
    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

RACIMO = str(Path(sys.executable).parent / "racimo")
POLL_S = 0.1
WRITE_TIMEOUT_S = 60.0


@contextmanager
def standing_lab(name: str, *, nodes: int = 3, witness: bool = False, bare: bool = False) -> Iterator[Lab]:
    """A lab of its own for one module, with the guest image on the shared storage; gone afterwards."""
    state = Path(tempfile.mkdtemp(prefix="racimo-lab-", dir="/var/tmp"))
    place = LabPlace(name=f"{name}{os.getpid()}", state=state / "state", cache=LabPlace.from_environment().cache)

    async def make() -> Lab:
        lab = await make_nodes(place, plan_nodes(nodes, witness=witness), bare=bare, tell=lambda _what, _seconds: None)
        if not bare:
            await make_datacenter(lab, lambda _what, _seconds: None)
        await asyncio.to_thread(shutil.copyfile, guest_image(place.cache), place.shared / IMAGE)
        return lab

    try:
        yield asyncio.run(make())
    finally:
        asyncio.run(clean_up(place))
        shutil.rmtree(state, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Said:
    """How a call of ``racimo … --json`` ended, and its document."""

    code: int
    document: Any
    err: str

    @property
    def error(self) -> dict[str, Any]:
        """The error's ``kind``, ``what``, ``why``, ``todo``."""
        assert isinstance(self.document, dict) and "error" in self.document, self
        error: dict[str, Any] = self.document["error"]
        return error

    @property
    def told(self) -> str:
        """All that a person reads."""
        return " | ".join(str(self.error[part]) for part in ("what", "why", "todo"))


async def racimo(node: LabNode, *words: str, feed: str = "", timeout_s: float = 120.0) -> Said:
    """Call the command line in a node, whatever comes of it."""
    done = await node.execute(RACIMO, *words, "--json", feed=feed, timeout_s=timeout_s)
    try:
        document = json.loads(done.out) if done.out.strip() else None
    except ValueError:
        raise AssertionError(f"racimo {' '.join(words)} printed no JSON: {done}") from None
    return Said(done.code, document, done.err)


async def well(node: LabNode, *words: str, feed: str = "", timeout_s: float = 120.0) -> Any:
    """Call the command line in a node; it must end well. Returns its document."""
    said = await racimo(node, *words, feed=feed, timeout_s=timeout_s)
    assert said.code == 0, (words, said)
    return said.document


async def refused(
    node: LabNode, code: int, *words: str, saying: tuple[str, ...] = (), timeout_s: float = 120.0
) -> Said:
    """Call the command line in a node; it must end with ``code``, and say what happened, why, and what to do."""
    said = await racimo(node, *words, timeout_s=timeout_s)
    assert said.code == code, (words, said)
    for part in ("what", "why", "todo"):
        assert said.error[part], (words, part, said.error)
    for text in saying:
        assert text in said.told, (words, text, said.told)
    return said


async def call(node: LabNode, method: str, path: str, /, **parameters: Any) -> Any:
    """Call the API of a node over its socket, and wait for the task that it begins."""
    async with api(node) as client:
        ask = {"get": client.get, "post": client.post, "put": client.put, "delete": client.delete}[method]
        return await finish(client, await ask(path, parameters))


async def until(what: str, holds: Callable[[], Awaitable[Any]], timeout_s: float = 90.0) -> Any:
    """Ask again until the answer is true; it is returned."""
    last: Any = None
    try:
        async with asyncio.timeout(timeout_s):
            while not (last := await holds()):  # noqa: ASYNC110 - what is waited for gives no event here
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"waited {timeout_s:g} s in vain: {what}; last {last!r}") from None
    return last


# -- guests ------------------------------------------------------------------------------------------------------


async def guest_row(node: LabNode, vmid: int) -> dict[str, Any]:
    """The guest as ``node`` lists it; empty when there is none."""
    rows = await call(node, "get", "/cluster/resources")
    return next((row for row in rows if row.get("vmid") == vmid), {})


async def written(lab: Lab, vmid: int, more: int = 5) -> LabNode:
    """Wait for some more writes of the guest than there are now; returns the node where it made the last."""
    newest = max((entry.seq for node in lab.nodes if (entry := last_acknowledgement(node, vmid))), default=0)
    return (await await_write(lab, vmid, newest + more, timeout_s=WRITE_TIMEOUT_S))[0]


async def verdict(lab: Lab, vmid: int) -> JournalReport:
    """What the guest's disk proves; nothing lost and never two writers."""
    report = await read_journal(vmid, lab.place.shared, [node.disk.upper for node in lab.nodes])
    assert report.sound, report
    return report


async def settled(lab: Lab, asked: LabNode, vmid: int) -> str:
    """Wait until there is exactly one process of the guest, on the node that its record names; returns the node."""

    async def one() -> str:
        processes, row = guest_processes(lab, vmid), await guest_row(asked, vmid)
        at_home = len(processes) == 1 and processes[0].node == row.get("node") and row.get("status") == "running"
        return processes[0].node if at_home else ""

    return str(await until(f"one process of guest {vmid}, where its record says", one))


async def traces(lab: Lab, vmid: int) -> list[str]:
    """What is left of a guest on any node: files, units, marks, taps, processes."""
    found = [f"process on {process.node}" for process in guest_processes(lab, vmid)]
    found += [str(path) for path in lab.place.shared.glob(f"**/vm-{vmid}-*")]
    found += [str(path) for path in lab.place.shared.glob(f"**/{vmid}")]
    for node in lab.nodes:
        if node.leader is None:
            continue
        root = node.files
        kept = [root / f"run/racimo/ha/{vmid}", root / f"run/racimo/guests/{vmid}"]
        kept += [root / f"var/log/racimo/guests/{vmid}"]
        kept += [
            *root.glob(f"var/lib/racimo/images/**/vm-{vmid}-*"),
            *root.glob(f"var/lib/racimo/images/images/{vmid}"),
        ]
        found += [f"{node.name}: {path.relative_to(root)}" for path in kept if path.exists()]
        units = await node.succeed(
            "systemctl", "list-units", "--all", "--plain", "--no-legend", f"racimo-guest-{vmid}*"
        )
        found += [f"{node.name}: unit {line.split()[0]}" for line in units.splitlines()]
        links = json.loads(await run("ip", "-json", "-n", node.network.namespace(node.name), "link", "show"))
        found += [
            f"{node.name}: {link['ifname']}" for link in links if link.get("ifname", "").startswith(f"tap{vmid}i")
        ]
    return found
