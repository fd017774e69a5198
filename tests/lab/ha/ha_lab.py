"""A datacenter under HA in the lab, as its tests see it from outside: who runs, who manages, what happened when.

Times are seconds on the host's CLOCK_BOOTTIME, which all nodes of a lab share with the guards' reports.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from racimo.errors import RacimoError
from racimo.lab.datacenter import api, finish
from racimo.lab.demo import IMAGE, create_guest, put_under_ha
from racimo.lab.image import guest_image
from racimo.lab.journal import JournalReport, read_journal
from racimo.lab.process import Process, run
from racimo.lab.together import together
from racimo.lab.watch import GuestProcess, await_write, boot_clock, guest_processes, last_acknowledgement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

VMID = 100
SID = f"vm:{VMID}"
POLL_S = 0.1
REST_TIMEOUT_S = 90.0
FAILOVER_TIMEOUT_S = 60.0
BOOT_TIMEOUT_S = 60.0
CERTIFICATES = ("--cacert", "/etc/racimo/ca.crt", "--cert", "/etc/racimo/node.crt", "--key", "/etc/racimo/node.key")

T = TypeVar("T")


async def until(what: str, look: Callable[[], Awaitable[T | None]], timeout_s: float) -> T:
    """Look again and again until there is something: nothing in a node tells us. A refusal counts as not yet."""
    last: object = None
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        try:
            found = await look()
        except (RacimoError, OSError) as error:
            last = error
        else:
            if found is not None:
                return found
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what}" + (f" (last: {last})" if last else ""))


@dataclass(frozen=True, slots=True)
class Failover:
    """From the fault at ``at`` on: seconds until the start was commanded, until QEMU began, until it wrote."""

    source: str
    target: str
    at: float
    commanded_s: float
    began_s: float
    wrote_s: float
    process: GuestProcess

    def __str__(self) -> str:
        times = f"commanded {self.commanded_s:5.2f} s, QEMU {self.began_s:5.2f} s, writes {self.wrote_s:5.2f} s"
        return f"{self.source} → {self.target}: {times}"


@dataclass(frozen=True, slots=True)
class HaLab:
    """A lab with one guest under HA."""

    lab: Lab

    @property
    def nodes(self) -> list[LabNode]:
        """Those that run guests."""
        return [node for node in self.lab.nodes if not node.spec.witness]

    def node(self, name: str) -> LabNode:
        return self.lab.node(name)

    def others(self, node: LabNode) -> list[LabNode]:
        """The other nodes that run guests."""
        return [other for other in self.nodes if other.name != node.name]

    # what is

    def running(self) -> GuestProcess:
        """The guest's one QEMU."""
        found = guest_processes(self.lab, VMID)
        assert len(found) == 1, f"the guest runs {len(found)} times: {found}"
        return found[0]

    def owner(self) -> LabNode:
        """The node that the guest's QEMU runs on."""
        return self.node(self.running().node)

    async def ha(self, node: LabNode) -> dict[str, Any]:
        """How HA stands on a node, by its own daemon."""
        printed = await node.succeed(
            "curl", "-sS", "--max-time", "5", "--unix-socket", "/run/racimo/ha.sock", "http://x/status"
        )
        status = json.loads(printed)
        assert isinstance(status, dict)
        return status

    async def service(self, node: LabNode) -> dict[str, Any]:
        """The guest as an HA resource, as ``node`` shows it."""
        async with api(node) as client:
            lines = await client.get("/cluster/ha/status/current")
        assert isinstance(lines, list)
        return next((line for line in lines if isinstance(line, dict) and line.get("sid") == SID), {})

    async def manager(self, node: LabNode) -> str:
        """The node that manages, as ``node`` sees it."""
        return str((await self.ha(node))["manager"])

    async def members(self, node: LabNode) -> list[dict[str, Any]]:
        """What the store's members that answer say of themselves."""
        printed = await self.etcdctl(node, "endpoint", "status", "--cluster", "-w", "json")
        return list(json.loads(printed))

    async def leader(self, node: LabNode) -> str:
        """The node (or witness) whose member of the store leads."""
        for member in await self.members(node):
            if member["Status"].get("leader") == member["Status"]["header"]["member_id"]:
                return next(n.name for n in self.lab.nodes if f"//{n.address()}:" in member["Endpoint"])
        raise AssertionError("the store has no leader")

    async def etcdctl(self, node: LabNode, *arguments: str) -> str:
        endpoint = f"https://{node.address()}:2379"
        options = ("--command-timeout=3s", "--endpoints", endpoint, *CERTIFICATES)
        return await node.succeed("env", "ETCDCTL_API=3", "etcdctl", *options, *arguments)

    async def lead(self, node: LabNode) -> None:
        """Make the member of the store on ``node`` the leader."""
        leader = self.node(await self.leader(node))
        if leader.name != node.name:
            status = next(m["Status"] for m in await self.members(node) if f"//{node.address()}:" in m["Endpoint"])
            await self.etcdctl(leader, "move-leader", f"{status['header']['member_id']:x}")

    def guard(self, node: LabNode) -> dict[str, Any]:
        """The guard's report."""
        report = json.loads((node.files / "run/racimo/guard.json").read_text())
        assert isinstance(report, dict)
        return report

    async def unit_pid(self, node: LabNode, unit: str) -> int:
        """The main process of a unit, by the node's own count; 0 for none."""
        return int((await node.succeed("systemctl", "show", "--value", "--property=MainPID", unit)).strip())

    async def commanded(self, node: LabNode, after: float) -> float:
        """When the agent of ``node`` took the command to start the guest, by its log."""
        shown = await run(*node.journalctl("-u", "racimo-ha", "-o", "json", "-n", "300"))
        offset = boot_clock() - time.monotonic()
        for line in shown.splitlines():
            entry = json.loads(line)
            at = int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6 + offset
            if at > after and f"event=command sid={SID} command=start" in str(entry["MESSAGE"]):
                return at
        raise AssertionError(f"{node.name} was not commanded to start the guest")

    async def account(self) -> str:
        """What each node's HA says of itself and did last, for the message of a test that failed."""
        told = []
        for node in self.nodes:
            told.append(f"== {node.name}, {'on' if node.leader else 'off'}")
            with suppress(RacimoError):
                told.append(str(await self.ha(node)))
                told.append(str(await self.service(node)))
            with suppress(RacimoError):
                units = ("-u", "racimo-ha", "-u", "racimo-node")
                told.append(await run(*node.journalctl(*units, "-o", "short-precise", "-n", "90")))
        return "\n".join(told)

    # what is done

    async def at_rest(self) -> None:
        """Where each test begins: every node on and joined by itself, no fault left, the guest started and writing."""
        await self.lab.network.heal()
        for node in self.lab.nodes:
            if node.cgroup.frozen:
                await node.thaw()
        await together(*(node.boot(ready=False) for node in self.lab.nodes if node.container is None))
        await until("the datacenter at rest", self._rests, REST_TIMEOUT_S)
        await self.writes()

    async def _rests(self) -> bool | None:
        for node in self.nodes:
            status = await self.ha(node)
            if not status["lease_left_s"] or not status["in_touch"]:
                return None
            health = {name: seen["health"] for name, seen in status["nodes"].items()}
            if health != dict.fromkeys((n.name for n in self.nodes), "online"):
                return None
        members = await self.members(self.nodes[0])
        leaders = {member["Status"].get("leader") for member in members}  # a member without a leader leaves it out
        if len(members) != len(self.lab.nodes) or len(leaders) != 1 or None in leaders:
            return None
        for node in self.nodes:
            if (await self.service(node)).get("state") != "started":
                return None
        return True if len(guest_processes(self.lab, VMID)) == 1 else None

    async def writes(self, more: int = 5, *, off: str = "") -> None:
        """Wait until the guest has written some more."""
        newest = max((entry.seq for node in self.nodes if (entry := last_acknowledgement(node, VMID))), default=0)
        await await_write(self.lab, VMID, newest + more, timeout_s=BOOT_TIMEOUT_S, off=off)

    async def move_to(self, node: LabNode) -> None:
        """Have HA migrate the guest live, and wait until it is there."""
        if self.owner().name == node.name:
            return
        async with api(node) as client:
            await client.post(f"/cluster/ha/resources/{SID}/migrate", node=node.name)

        async def there() -> bool | None:
            processes = guest_processes(self.lab, VMID)
            service = await self.service(node)
            done = [each.node for each in processes] == [node.name] and service.get("state") == "started"
            return True if done and service.get("node") == node.name else None

        try:
            await until(f"the guest migrated to {node.name}", there, 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.account()}") from None
        await self.writes()

    @asynccontextmanager
    async def death(self) -> AsyncIterator[asyncio.Task[float]]:
        """A task that ends when the guest's present QEMU is dead, with the time."""
        process = Process.of(self.running().pid)
        assert process is not None

        async def see() -> float:
            assert await process.ended(FAILOVER_TIMEOUT_S), "the guest's old QEMU is still there"
            return boot_clock()

        seeing = asyncio.create_task(see())
        try:
            yield seeing
        finally:
            seeing.cancel()
            await asyncio.wait({seeing})

    @asynccontextmanager
    async def isolated(self, node: LabNode) -> AsyncIterator[float]:
        """Cut a node off from all others, for as long as the block lasts; gives the time of the cut."""
        at = boot_clock()
        await self.lab.network.partition([[n.name for n in self.lab.nodes if n.name != node.name], [node.name]])
        try:
            yield at
        finally:
            await self.lab.network.heal()

    async def failover(self, old: GuestProcess, at: float, *, switch_on: bool = False) -> Failover:
        """Wait until the guest, which ran as ``old`` when the fault struck at ``at``, writes as another process.

        That is on another node, unless its own was reset so quickly that it is back within its lease.
        ``switch_on``: give the old node its power back while the guest boots.
        """
        source = self.node(old.node)

        async def another() -> GuestProcess | None:
            return next((each for each in guest_processes(self.lab, VMID) if each.pid != old.pid), None)

        try:
            process = await until(f"the guest started after {old}", another, FAILOVER_TIMEOUT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.account()}") from None
        target = self.node(process.node)
        last = max((entry.seq for node in self.nodes if (entry := last_acknowledgement(node, VMID))), default=0)
        if switch_on:
            await source.boot(ready=False)
        await await_write(self.lab, VMID, last, timeout_s=BOOT_TIMEOUT_S)
        wrote = boot_clock()
        commanded = await self.commanded(target, at)
        return Failover(source.name, target.name, at, commanded - at, process.began - at, wrote - at, process)

    async def cut_power(self, node: LabNode) -> Failover:
        """Cut the power of the guest's node; it is switched on again once the guest starts elsewhere."""
        old, at = self.running(), boot_clock()
        assert old.node == node.name
        await node.power_cut()
        failover = await self.failover(old, at, switch_on=True)
        assert failover.target != node.name
        return failover

    async def journal(self) -> JournalReport:
        """What the guest's disk proves."""
        return await read_journal(VMID, self.lab.place.shared, [node.disk.upper for node in self.lab.nodes])

    async def assert_sound(self) -> JournalReport:
        """No acknowledged write was lost, and never were there two writers."""
        report = await self.journal()
        assert report.lost == ()
        assert report.gaps == ()
        assert report.writers_at_once == 1, report.writers
        return report


async def with_guest(lab: Lab) -> HaLab:
    """Put the lab's guest under HA on its first node, and wait until it writes."""
    image = await asyncio.to_thread(guest_image, lab.place.cache)
    await asyncio.to_thread(shutil.copyfile, image, lab.place.shared / IMAGE)
    await create_guest(lab.nodes[0], VMID, lab)
    await put_under_ha(lab.nodes[0], VMID)
    await await_write(lab, VMID, 0, timeout_s=BOOT_TIMEOUT_S)
    return HaLab(lab)


@asynccontextmanager
async def plain_guest(ha: HaLab, node: LabNode, vmid: int) -> AsyncIterator[GuestProcess]:
    """A guest that is not under HA, running on ``node``."""
    await create_guest(node, vmid, ha.lab)
    try:
        async with api(node) as client:
            await finish(client, await client.post(f"/nodes/{node.name}/qemu/{vmid}/status/start"))
        await await_write(ha.lab, vmid, 0, timeout_s=BOOT_TIMEOUT_S)
        yield guest_processes(ha.lab, vmid)[0]
    finally:
        with suppress(RacimoError):  # a test that failed may have left the node without quorum
            async with api(node) as client:
                await finish(client, await client.post(f"/nodes/{node.name}/qemu/{vmid}/status/stop"))
                await finish(client, await client.delete(f"/nodes/{node.name}/qemu/{vmid}"))
