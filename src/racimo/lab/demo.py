"""The demonstration, step by step: a datacenter, a guest, a live migration, a power cut, and the verdict."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed, Unreachable
from racimo.lab.datacenter import SHARED_PATH, SHARED_STORAGE, api, finish, make_datacenter
from racimo.lab.image import guest_image
from racimo.lab.journal import JournalReport, read_journal
from racimo.lab.lab import Lab, make_nodes, plan_nodes, timed
from racimo.lab.watch import await_write, boot_clock, guest_processes, last_acknowledgement

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.lab.lab import Tell
    from racimo.lab.node import LabNode
    from racimo.lab.place import LabPlace

VMID = 100
IMAGE = "lab-guest.raw"
BOOT_TIMEOUT_S = 60.0
MIGRATION_TIMEOUT_S = 60.0
FAILOVER_TIMEOUT_S = 90.0
SETTLED_WRITES = 20
"""Writes to wait for between the acts: two seconds of them."""
_RESULT = re.compile(r"total ([\d.]+) s, downtime (\d+) ms")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What was measured. ``failover_start_s``: from the power cut to the start of the guest's QEMU elsewhere, by the
    time of its process; ``failover_running_s``: to its first acknowledged write there."""

    nodes: int
    quorum: bool
    boot_s: float
    migration_s: float
    migration_downtime_ms: float
    failover_start_s: float
    failover_running_s: float
    writes: int
    writes_lost: int
    writers_at_once: int

    @property
    def sound(self) -> bool:
        """Whether the promise was kept."""
        return self.quorum and self.writes > 0 and self.writes_lost == 0 and self.writers_at_once == 1

    def as_json(self) -> dict[str, object]:
        """The fields of the one JSON line."""
        return asdict(self)


async def demonstrate(place: LabPlace, tell: Tell) -> DemoResult:
    """Play it on a new lab of three nodes, which is left up. Raises what went wrong, as every step does."""
    with timed(tell, "guest image"):
        image = await asyncio.to_thread(guest_image, place.cache)
    lab = await make_nodes(place, plan_nodes(3, witness=False), bare=False, tell=tell)
    await make_datacenter(lab, tell)
    n1, n2 = lab.nodes[0], lab.nodes[1]
    with timed(tell, f"guest {VMID} created on {n1.name}, its disks on '{SHARED_STORAGE}', under HA"):
        await asyncio.to_thread(shutil.copyfile, image, place.shared / IMAGE)
        await create_guest(n1, VMID, lab)
        await put_under_ha(n1, VMID)
    with timed(tell, "guest booted, its journal writes ten records a second"):
        boot_s = await measure_boot(lab, VMID)
    migration_s, downtime_ms = await migrate(lab, n1, n2, tell)
    start_s, running_s = await cut_power(lab, n2, tell)
    report = await judge(lab, VMID, tell)
    async with api(n1) as client:
        quorum = _quorum(await client.get("/cluster/status"))
    return DemoResult(
        nodes=len(lab.nodes),
        quorum=quorum,
        boot_s=round(boot_s, 2),
        migration_s=migration_s,
        migration_downtime_ms=downtime_ms,
        failover_start_s=round(start_s, 2),
        failover_running_s=round(running_s, 2),
        writes=report.writes,
        writes_lost=len(report.lost) + sum(last - first + 1 for first, last in report.gaps),
        writers_at_once=report.writers_at_once,
    )


async def create_guest(node: LabNode, vmid: int, lab: Lab, **more: JsonValue) -> None:
    """A lab guest: system disk from the image, a data disk for its journal, an address by cloud-init."""
    number = 100 + vmid % 100
    config: dict[str, JsonValue] = {
        "vmid": vmid,
        "name": f"guest{vmid}",
        "memory": 128,
        "cores": 1,
        "virtio0": f"{SHARED_STORAGE}:0,import-from={SHARED_PATH}/{IMAGE},format=raw",
        "virtio1": f"{SHARED_STORAGE}:1,format=raw,serial=journal",
        "ide2": f"{SHARED_STORAGE}:cloudinit",
        "boot": "order=virtio0",
        "net0": "virtio,bridge=vmbr0",
        "ipconfig0": f"ip=10.77.0.{number}/24,gw=10.77.0.1",
        "serial0": "socket",
        "agent": "1",
        **more,
    }
    async with api(node) as client:
        await finish(client, await client.post(f"/nodes/{node.name}/qemu", config))


async def put_under_ha(node: LabNode, vmid: int) -> None:
    """From now on the guest is kept running."""
    async with api(node) as client:
        await client.post("/cluster/ha/resources", sid=f"vm:{vmid}", state="started", max_restart=1, max_relocate=1)


async def measure_boot(lab: Lab, vmid: int) -> float:
    """Seconds from the start of the guest's QEMU to its first acknowledged write."""
    await await_write(lab, vmid, 0, timeout_s=BOOT_TIMEOUT_S)
    now = boot_clock()
    processes = guest_processes(lab, vmid)
    if not processes:
        raise Unreachable(f"Guest {vmid} has written, but its QEMU is gone")
    return now - processes[0].began


async def migrate(lab: Lab, source: LabNode, target: LabNode, tell: Tell) -> tuple[float, float]:
    """Move the guest without stopping it; returns seconds in all and milliseconds of standstill, as measured there."""
    await _let_it_write(lab, VMID)
    began = time.monotonic()
    async with api(source) as client:
        answer = await client.post(f"/nodes/{source.name}/qemu/{VMID}/migrate", target=target.name, online=1)
        await finish(client, answer)
        upid = str(answer)
        lines = await client.get(f"/nodes/{source.name}/tasks/{upid}/log", limit=500)
    seconds = time.monotonic() - began
    found = _RESULT.search(str(lines))
    if not found:
        raise OperationFailed("The migration's log does not say how long it took", why=str(lines)[-300:])
    before = last_acknowledgement(source, VMID)
    await await_write(lab, VMID, before.seq if before else 0, timeout_s=MIGRATION_TIMEOUT_S, off=source.name)
    tell(f"live migration {source.name} → {target.name}, standing still for {found[2]} ms", seconds)
    return float(found[1]), float(found[2])


async def cut_power(lab: Lab, victim: LabNode, tell: Tell) -> tuple[float, float]:
    """Cut the power of the guest's node; returns seconds until its QEMU started, and until it wrote, elsewhere."""
    await _let_it_write(lab, VMID)
    last = last_acknowledgement(victim, VMID)
    if last is None:
        raise Unreachable(f"Guest {VMID} does not write on {victim.name}")
    cut = boot_clock()
    await victim.power_cut()
    last = last_acknowledgement(victim, VMID) or last
    tell(f"power of {victim.name} cut, after the guest's write {last.seq}", boot_clock() - cut)
    node, entry = await await_write(lab, VMID, last.seq, timeout_s=FAILOVER_TIMEOUT_S, off=victim.name)
    written = boot_clock()
    began = min((each.began for each in guest_processes(lab, VMID) if each.node == node.name), default=written)
    tell(f"guest started again on {node.name}", began - cut)
    tell(f"guest writes again on {node.name}, from {entry.seq}", written - cut)
    await _let_it_write(lab, VMID)
    return began - cut, written - cut


async def judge(lab: Lab, vmid: int, tell: Tell) -> JournalReport:
    """Read the journal and say what it proves."""
    began = time.monotonic()
    report = await read_journal(vmid, lab.place.shared, [node.disk.upper for node in lab.nodes])
    lost = "none lost" if not report.lost else f"{len(report.lost)} LOST"
    writers = "never two writers at once" if report.writers_at_once == 1 else f"{report.writers_at_once} AT ONCE"
    counts = f"{report.writes} writes, {report.acknowledged} acknowledged"
    tell(f"journal: {counts}, {lost}, {writers}", time.monotonic() - began)
    return report


async def _let_it_write(lab: Lab, vmid: int) -> None:
    """Wait for some more writes than there are now."""
    newest = max((entry.seq for node in lab.nodes if (entry := last_acknowledgement(node, vmid))), default=0)
    await await_write(lab, vmid, newest + SETTLED_WRITES, timeout_s=BOOT_TIMEOUT_S)


def _quorum(status: JsonValue) -> bool:
    entries = status if isinstance(status, list) else []
    return any(isinstance(entry, dict) and entry.get("quorate") == 1 for entry in entries)
