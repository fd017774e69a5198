"""Load that is measured, not configured, decides where guests go; and guests move for balance, a few in an hour.

The guests are boot sectors without a system. Those that make a load spin for a part of each tick of the clock: enough
to be measured, and little enough to leave the lab its two CPUs. What a node uses is counted in its own control group.
"""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from desk import Policies
from ha_lab import SID, until

from racimo.lab.datacenter import SHARED_PATH, SHARED_STORAGE, api, finish
from racimo.lab.demo import put_under_ha
from racimo.lab.together import together
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

SPINS = b"\xfb\xf4\x66\xb9\x00\x00\x60\x00\x66\x49\x75\xfc\xeb\xf3"
"""x86: sti; again: hlt, until the next of 18 ticks in a second; mov ecx, 6 Mi; spin: dec ecx; jnz spin; jmp again."""
HALTS = b"\xfa\xf4"
"""cli; hlt."""
BUSY, IDLE = (201, 202), (203, 204)
BALANCE = "/racimo/1/ha/balance/state"
SOON_S = 90.0
"""The manager measures every 10 s, and needs two looks at a guest; a round of balance is 10 s too."""
DEFAULTS = ("crs=basic", "crs_hold=3", "crs_moves_per_hour=10", "crs_auto_rebalance=0")


class Fleet(Policies):
    """A lab with guests that use what they use."""

    async def guest(self, vmid: int, node: LabNode, code: bytes) -> None:
        image = self.lab.lab.place.shared / f"boot-{vmid}.raw"
        image.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))  # less is no disk to boot from
        disk = f"{SHARED_STORAGE}:0,import-from={SHARED_PATH}/{image.name},format=raw"
        async with api(node) as client:
            config = {"vmid": vmid, "name": f"load{vmid}", "memory": 32, "cores": 1, "virtio0": disk}
            await finish(client, await client.post(f"/nodes/{node.name}/qemu", {**config, "boot": "order=virtio0"}))
        await put_under_ha(node, vmid)
        await self.is_in("started", node=node.name, sid=f"vm:{vmid}")

    async def set(self, *options: str) -> None:
        await self.racimo("cluster", "options", *(word for option in options for word in ("--set", option)))

    async def measured(self, vmid: int) -> float:
        """CPUs that the manager's node has measured the guest to use."""
        manager = self.lab.node(await self.lab.manager(self.desk))
        return float((await self.lab.ha(manager))["cpu_load"].get(f"vm:{vmid}", -1.0))

    async def balance(self) -> dict[str, Any]:
        """What the manager keeps of its rounds."""
        printed = await self.lab.etcdctl(self.desk, "get", BALANCE, "--print-value-only")
        return json.loads(printed) if printed.strip() else {"rounds": 0, "moves": [], "round_at": 0.0}

    def homes(self) -> dict[int, list[str]]:
        return {vmid: [process.node for process in guest_processes(self.lab.lab, vmid)] for vmid in BUSY}

    async def forget(self, vmid: int) -> None:
        with suppress(AssertionError):
            await self.is_in("started", sid=f"vm:{vmid}", within_s=10)
        await self.ha("remove", f"vm:{vmid}")
        async with api(self.desk) as client:
            for process in guest_processes(self.lab.lab, vmid):
                await finish(client, await client.post(f"/nodes/{process.node}/qemu/{vmid}/status/stop"))
                await finish(client, await client.delete(f"/nodes/{process.node}/qemu/{vmid}"))


@asynccontextmanager
async def loaded(lab: HaLab) -> AsyncIterator[tuple[Fleet, LabNode, LabNode]]:
    """Two guests that use what they get on one node, two that use none on another: alike for who counts or adds up."""
    fleet = Fleet(lab)
    busy, idle = lab.others(lab.owner())
    try:
        await fleet.set("crs=dynamic")  # the first look is taken while the guests are made
        await together(*(fleet.guest(vmid, busy, SPINS) for vmid in BUSY))
        await together(*(fleet.guest(vmid, idle, HALTS) for vmid in IDLE))
        yield fleet, busy, idle
    finally:
        await fleet.set(*DEFAULTS)
        await together(*(fleet.forget(vmid) for vmid in (*BUSY, *IDLE)))


async def test_measured_load_moves_placements_and_guests_within_the_hours_bound(
    three: HaLab, figures: list[str]
) -> None:
    async with loaded(three) as (fleet, busy, idle):
        home = three.owner()

        async def all_measured() -> bool | None:
            loads = [await fleet.measured(vmid) for vmid in (*BUSY, *IDLE)]
            return True if min(loads[:2]) > 3 * max(loads[2:]) and min(loads) >= 0 else None

        await until("the load of the busy guests measured", all_measured, SOON_S)

        # a placement: by count or by size the busy node, which sorts first, would be as good as the idle one
        await fleet.ha("maintenance", home.name, "on")
        await fleet.is_in("started", node=idle.name)
        await fleet.ha("maintenance", home.name, "off")
        await fleet.is_in("started", node=home.name)

        # balance, dry first
        before = fleet.homes()
        dry = await fleet.ha("rebalance", "--dry-run", "--moves", "1")
        (move,) = dry["moves"]
        assert move["source"] == busy.name and move["sid"] in {f"vm:{vmid}" for vmid in BUSY}, dry
        assert f"takes load from {busy.name}" in move["why"] and move["after"] < move["before"]
        assert fleet.homes() == before == {vmid: [busy.name] for vmid in BUSY}

        # by itself: one move in this hour
        pids = {vmid: [process.pid for process in guest_processes(three.lab, vmid)] for vmid in BUSY}
        at = time.monotonic()
        await fleet.set("crs_hold=1", "crs_moves_per_hour=1", "crs_auto_rebalance=1")

        async def moved() -> int | None:
            return next(
                (vmid for vmid, nodes in fleet.homes().items() if len(nodes) == 1 != nodes.count(busy.name)), None
            )

        vmid = await until("a busy guest moved for balance", moved, SOON_S)
        sid = f"vm:{vmid}"
        line = await fleet.is_in("started", sid=sid)
        took = time.monotonic() - at
        assert [process.pid for process in guest_processes(three.lab, vmid)] != pids[vmid]
        history = await fleet.history(sid)
        assert any(step.startswith("migrate") and "for balance: it takes load from" in step for step in history), (
            history
        )
        assert not any(step.startswith(("request_stop", "request_start")) for step in history[-3:]), history

        # brought back by hand it stays: the hour's only move is used up, though the load is as unlike as before
        await fleet.ha("migrate", sid, busy.name)
        await fleet.is_in("started", node=busy.name, sid=sid)
        again = time.time()

        async def judged() -> dict[str, Any] | None:
            kept = await fleet.balance()
            return kept if kept["round_at"] > again and kept["rounds"] >= 1 else None

        kept = await until("the imbalance judged again", judged, SOON_S)
        assert len(kept["moves"]) == 1
        assert fleet.homes() == before

        # asked for, it moves all the same
        await fleet.set("crs_auto_rebalance=0")
        asked = await fleet.ha("rebalance", "--moves", "1")
        (move,) = asked["moves"]
        await fleet.is_in("started", node=move["target"], sid=move["sid"])
        figures.append(
            f"balance by measured load: {sid} moved live to {line['node']} {took:.1f} s after it was allowed"
        )
    assert SID in {entry.get("sid") for entry in await fleet.ha("status")}
    await three.assert_sound()
