"""Moving guests between nodes: live there and back, offline, and what is refused before anything happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_talk import call, guest_row, refused, settled, standing_lab, traces, until, verdict, well, written

from racimo.lab.demo import IMAGE
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from racimo.lab.lab import Lab

    MakeGuest = Callable[..., Awaitable[int]]

pytestmark = [pytest.mark.lab, pytest.mark.root]

SMALL = {"virtio1": None, "net0": None, "ide2": None, "ipconfig0": None, "virtio0": "shared:1,format=raw"}
"""A guest that need not boot: one empty disk. QEMU runs it all the same."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes and a witness."""
    with standing_lab("rm", witness=True) as lab:
        yield lab


async def test_a_guest_moves_there_and_back_and_loses_no_write(lab: Lab, make_guest: MakeGuest) -> None:
    vmid, n1 = await make_guest(), lab.node("n1")
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await written(lab, vmid)
    targets = ["n2", "n1"] * 3
    for number, target in enumerate(targets):
        asked = lab.nodes[number % 3]
        await well(asked, "guest", "migrate", str(vmid), target)
        assert homes(lab, vmid) == [target]
        assert (await written(lab, vmid)).name == target
    await well(n1, "guest", "stop", str(vmid))
    report = await verdict(lab, vmid)
    assert [span.writer.node for span in report.writers] == ["n1", *targets]
    assert [span.writer.epoch for span in report.writers] == [str(epoch) for epoch in range(1, 8)]
    assert len({span.writer.boot for span in report.writers}) == 1
    assert report.writers_at_once == 1
    await well(n1, "guest", "destroy", str(vmid))
    assert await traces(lab, vmid) == []


async def test_a_paused_guest_arrives_paused(lab: Lab, make_guest: MakeGuest) -> None:
    vmid, n1 = await make_guest(**SMALL), lab.node("n1")
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/suspend")
    await well(n1, "guest", "migrate", str(vmid), "n2")
    await until("the guest paused on n2", lambda: _is(lab, vmid, "n2", "paused"))
    assert homes(lab, vmid) == ["n2"]
    await well(n1, "guest", "resume", str(vmid))
    await until("the guest running on n2", lambda: _is(lab, vmid, "n2", "running"))
    await well(n1, "guest", "stop", str(vmid))
    await well(n1, "guest", "destroy", str(vmid))


def homes(lab: Lab, vmid: int) -> list[str]:
    """The nodes on which the guest has a process."""
    return [process.node for process in guest_processes(lab, vmid)]


async def _is(lab: Lab, vmid: int, node: str, state: str) -> bool:
    row = await guest_row(lab.node("n3"), vmid)
    return (row.get("node"), row.get("status")) == (node, state)


async def test_a_stopped_guest_moves_by_its_record(lab: Lab, make_guest: MakeGuest) -> None:
    vmid, n3 = await make_guest(**SMALL), lab.node("n3")
    await well(n3, "guest", "migrate", str(vmid), "n2")
    assert await _is(lab, vmid, "n2", "stopped")
    await well(n3, "guest", "start", str(vmid))
    assert await settled(lab, n3, vmid) == "n2"
    await refused(n3, 4, "guest", "migrate", str(vmid), "n1", "--offline", saying=("is running",))
    await well(n3, "guest", "stop", str(vmid))
    await well(n3, "guest", "destroy", str(vmid))
    assert await traces(lab, vmid) == []


@pytest.mark.parametrize("running", [True, False])
async def test_a_guest_with_a_local_disk_stays(lab: Lab, make_guest: MakeGuest, running: bool) -> None:
    vmid, n1 = await make_guest(**{**SMALL, "virtio0": "local:1,format=raw"}), lab.node("n1")
    if running:
        await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    said = await refused(n1, 4, "guest", "migrate", str(vmid), "n2", saying=("n2", f"local:{vmid}", "n1 only"))
    assert "share" in said.error["todo"]
    await stays(lab, vmid, running=running)


async def stays(lab: Lab, vmid: int, *, running: bool) -> None:
    """After a refusal: the guest is as it was, on n1, and nothing of it anywhere else; then it goes."""
    n1 = lab.node("n1")
    assert await _is(lab, vmid, "n1", "running" if running else "stopped")
    assert homes(lab, vmid) == ["n1"] * running
    assert [trace for trace in await traces(lab, vmid) if trace.startswith(("n2", "n3"))] == []
    if running:
        await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/stop")
    await call(n1, "delete", f"/nodes/n1/qemu/{vmid}")


async def test_a_target_without_the_guests_bridge_is_refused(lab: Lab, make_guest: MakeGuest) -> None:
    n1 = lab.node("n1")
    await n1.succeed("ip", "link", "add", "vmbr7", "type", "bridge")
    vmid = await make_guest(**{**SMALL, "net0": "virtio,bridge=vmbr7"})
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    said = await refused(n1, 4, "guest", "migrate", str(vmid), "n2", saying=("vmbr7", "n2"))
    assert "vmbr7" in said.told and homes(lab, vmid) == ["n1"]
    await stays(lab, vmid, running=True)


async def test_a_target_without_enough_memory_is_refused(lab: Lab, make_guest: MakeGuest) -> None:
    """The guest has more memory than is free: nothing touches it, so its own node bears it."""
    n1 = lab.node("n1")
    vmid = await make_guest(**SMALL, memory=_memory("MemTotal") - 64)
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    said = await refused(n1, 4, "guest", "migrate", str(vmid), "n2", saying=("n2", "MiB of memory", "are free"))
    assert "MiB of memory" in said.error["why"] and homes(lab, vmid) == ["n1"]
    await stays(lab, vmid, running=True)


def _memory(field: str) -> int:
    """MiB, by /proc/meminfo."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines[field].split()[0]) >> 10


async def test_nodes_that_cannot_take_it_are_refused_with_the_reason(lab: Lab, make_guest: MakeGuest) -> None:
    vmid, n1 = await make_guest(**SMALL), lab.node("n1")
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await refused(n1, 4, "guest", "migrate", str(vmid), "witness", saying=("witness",))
    await refused(n1, 3, "guest", "migrate", str(vmid), "n9", saying=("n9",))
    await refused(n1, 2, "guest", "migrate", str(vmid), "n1", saying=("on node n1 already",))
    assert homes(lab, vmid) == ["n1"]
    await stays(lab, vmid, running=True)


@pytest.mark.parametrize("running", [True, False])
async def test_a_node_that_is_off_is_no_target(lab: Lab, make_guest: MakeGuest, running: bool) -> None:
    """By its heartbeats for a stopped guest: nobody could start it there."""
    vmid, n1, n3 = await make_guest(**SMALL), lab.node("n1"), lab.node("n3")
    if running:
        await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await n3.power_cut()
    try:
        await until("n3 seen as offline", lambda: _offline(lab, "n3"), 60)
        await refused(n1, 5, "guest", "migrate", str(vmid), "n3", saying=("n3",), timeout_s=30)
        assert homes(lab, vmid) == ["n1"] * running
    finally:
        await n3.boot()
    await until("n3 seen as online", lambda: _online(lab, "n3"), 60)
    await stays(lab, vmid, running=running)


async def _offline(lab: Lab, name: str) -> bool:
    return not await _online(lab, name)


async def _online(lab: Lab, name: str) -> bool:
    rows = await call(lab.node("n1"), "get", "/cluster/status")
    return any(row["name"] == name and row.get("online") for row in rows)


async def test_the_image_that_guests_are_made_of_is_still_there(lab: Lab) -> None:
    """No destroy took what is not the guest's own."""
    assert (lab.place.shared / IMAGE).exists()
