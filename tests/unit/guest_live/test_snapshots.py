"""Snapshots of real guests on real qcow2 images."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from guest_parts import Lines
from qcow2_guests import SUM, a_guest, add, holds, image, inside, written

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, Refused
from racimo.guest.memory_file import save_memory
from racimo.guest.operations import ConfigureGuest, DestroyGuest, StartGuest, StopGuest, SuspendGuest
from racimo.guest.snapshot_operations import DeleteSnapshot, RollBack, TakeSnapshot
from racimo.model.guest import SnapshotState

if TYPE_CHECKING:
    from guest_nodes import Datacenter, GuestNode


async def names(node: GuestNode) -> list[str]:
    found: Any = await node.api("GET", "/100/snapshot")
    return [entry["name"] for entry in found]


async def test_a_stopped_guest_goes_back_to_its_disks_and_its_configuration(place: Datacenter) -> None:
    node = await a_guest(place)
    await written(image(place, 1), 1)
    await node.task("POST", "/100/snapshot", "snapname=before&description=as+it+was")
    await written(image(place, 1), 2)
    await node.run(ConfigureGuest(vmid=100, values={"memory": "48", "virtio2": "shared:0.01"}))
    await node.task("POST", "/100/snapshot/before/rollback")
    guest = await node.layout.guests.get(100)
    assert await holds(image(place, 1), 1) and guest.config["memory"] == "32" and guest.parent == "before"
    assert guest.config["unused0"].endswith("disk-2.raw") and "lock" not in guest.config


async def test_the_list_ends_with_the_present_and_tells_what_came_after_what(place: Datacenter) -> None:
    node = await a_guest(place)
    for name in ("one", "two"):
        await node.run(TakeSnapshot(vmid=100, name=name))
    await node.run(RollBack(vmid=100, name="one"))
    await node.run(TakeSnapshot(vmid=100, name="three"))
    found: Any = await node.api("GET", "/100/snapshot")
    parents = {entry["name"]: entry.get("parent") for entry in found}
    assert parents == {"one": None, "two": "one", "three": "one", "current": "three"}
    assert found[-1]["name"] == "current" and found[-1]["running"] == 0 and found[0]["vmstate"] == 0
    await node.task("DELETE", "/100/snapshot/one")
    found = await node.api("GET", "/100/snapshot")
    assert {entry["name"]: entry.get("parent") for entry in found} == {"two": None, "three": None, "current": "three"}


async def test_all_disks_of_a_running_guest_are_taken_together_and_deleted_while_it_runs(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    await node.run(TakeSnapshot(vmid=100, name="live"))
    assert await inside(place) == [("live",), ("live",)] and await node.states() == {100: "running"}
    await node.task("DELETE", "/100/snapshot/live", "force=0")
    assert await inside(place) == [(), ()] and await names(node) == ["current"]


async def test_a_guest_goes_on_where_it_was_when_its_memory_was_saved(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await node.run(StartGuest(vmid=100))
    assert await add(node, 7) == 7
    await node.task("POST", "/100/snapshot", "snapname=ram&vmstate=1")
    assert await add(node, 3) == 10
    assert await node.states() == {100: "running"}
    await node.task("POST", "/100/snapshot/ram/rollback")
    assert await add(node, 0) == 7
    await node.run(StopGuest(vmid=100))
    await node.task("POST", "/100/snapshot/ram/rollback")
    assert await add(node, 1) == 8
    config: Any = await node.api("GET", "/100/snapshot/ram/config")
    assert config["vmstate"] == "shared:100/vm-100-state-ram.raw" and config["memory"] == 32
    await node.run(StopGuest(vmid=100))
    await node.run(DestroyGuest(vmid=100))
    assert [path for path in (place.root / "shared").rglob("*") if path.is_file()] == []


async def test_a_guest_with_saved_memory_can_still_migrate(place: Datacenter) -> None:
    node, other = await a_guest(place, SUM), await place.add("n2")
    await node.run(StartGuest(vmid=100))
    assert await add(node, 7) == 7
    await node.run(TakeSnapshot(vmid=100, name="ram", memory=True))
    await node.task("POST", "/100/migrate", "target=n2&online=1")
    assert await add(other, 1) == 8
    await other.run(RollBack(vmid=100, name="ram"))
    assert await add(other, 0) == 7


async def test_a_raw_disk_is_refused_by_name_and_nothing_is_left(place: Datacenter) -> None:
    node = await a_guest(place, virtio2="shared:0.01,format=raw")
    with pytest.raises(Refused, match="virtio2 is raw, and the storage shared takes snapshots of qcow2 only"):
        await node.run(TakeSnapshot(vmid=100, name="none"))
    assert await names(node) == ["current"] and await inside(place) == [(), ()]


@pytest.mark.parametrize("name", ["current", "a", "1st", "über", "a b", "x" * 41])
async def test_a_name_that_cannot_be_is_refused(place: Datacenter, name: str) -> None:
    node = await place.add("n1")
    with pytest.raises(BadParameter, match="snapname"):
        await node.run(TakeSnapshot(vmid=100, name=name))


async def test_a_taken_name_and_an_unknown_one_are_said(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(TakeSnapshot(vmid=100, name="one"))
    with pytest.raises(AlreadyExists, match="snapshot name 'one' already exists"):
        await node.run(TakeSnapshot(vmid=100, name="one"))
    for operation in (RollBack(vmid=100, name="two"), DeleteSnapshot(vmid=100, name="two")):
        with pytest.raises(NotFound, match="snapshot 'two' does not exist"):
            await node.run(operation)


async def test_a_description_is_changed_and_nothing_else(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(TakeSnapshot(vmid=100, name="one", description="old"))
    assert await node.api("PUT", "/100/snapshot/one/config", "description=new") is None
    config: Any = await node.api("GET", "/100/snapshot/one/config")
    assert config["description"] == "new" and config["memory"] == 32


@pytest.mark.parametrize("running", [False, True])
async def test_what_was_cut_off_is_cleaned_up_by_the_next_attempt(place: Datacenter, running: bool) -> None:
    node = await a_guest(place)
    if running:
        await node.run(StartGuest(vmid=100))
    await node.run(TakeSnapshot(vmid=100, name="one", memory=running))
    view = await node.life.records.owned(100)
    cut = replace(view.guest.snapshots["one"], state=SnapshotState.PREPARE)
    await node.life.records.rewrite(view, replace(view.guest, snapshots={"one": cut}, parent=""))
    with pytest.raises(Conflict, match="cannot go back to 'one'"):
        await node.run(RollBack(vmid=100, name="one"))
    await node.run(TakeSnapshot(vmid=100, name="one", memory=running))
    assert await inside(place) == [("one",), ("one",)]
    await node.run(DeleteSnapshot(vmid=100, name="one"))
    assert await inside(place) == [(), ()] and not list((place.root / "shared").rglob("*state*"))


async def test_a_rollback_that_was_cut_off_keeps_the_guest_stopped_until_repeated(place: Datacenter) -> None:
    node = await a_guest(place)
    await written(image(place, 1), 1)
    await node.run(TakeSnapshot(vmid=100, name="one"))
    await written(image(place, 1), 2)
    view = await node.life.records.owned(100)
    await node.life.records.configure(view, {**view.guest.config, "lock": "rollback"})
    with pytest.raises(Conflict, match=r"Guest 100 is locked \(rollback\)"):
        await node.run(StartGuest(vmid=100))
    await node.run(RollBack(vmid=100, name="one", start=True))
    assert await node.states() == {100: "running"}
    await node.run(StopGuest(vmid=100))
    assert await holds(image(place, 1), 1)


async def test_a_snapshot_that_fails_is_undone_and_the_guest_goes_on(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await node.run(StartGuest(vmid=100))
    assert await add(node, 5) == 5
    blocked = place.root / "shared" / "images" / "100" / "vm-100-state-ram.raw"
    blocked.write_bytes(b"")
    with pytest.raises(AlreadyExists):
        await node.run(TakeSnapshot(vmid=100, name="ram", memory=True))
    assert await names(node) == ["current"] and await inside(place) == [(), ()]
    assert await add(node, 1) == 6


async def test_a_cancelled_saving_of_memory_leaves_the_guest_running(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await node.run(StartGuest(vmid=100))
    monitor = await node.life.host.monitor(100)
    with monitor.events("MIGRATION") as events:
        await monitor.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
        taking = asyncio.create_task(node.run(TakeSnapshot(vmid=100, name="ram", memory=True)))
        async with asyncio.timeout(20):
            await events.get()
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
    assert await names(node) == ["current"] and await inside(place) == [(), ()]
    assert await add(node, 9) == 9


async def test_a_guest_whose_daemon_died_while_its_memory_was_saved_goes_on(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await node.run(StartGuest(vmid=100))
    monitor, reached = await node.life.host.monitor(100), asyncio.Event()

    async def for_ever() -> None:
        reached.set()
        await asyncio.Event().wait()

    (place.root / "memory").touch()
    saving = asyncio.create_task(save_memory(monitor, place.root / "memory", Lines(), for_ever))
    async with asyncio.timeout(20):
        await reached.wait()
    await node.life.host.close()  # the monitor is gone before anything can be undone through it
    saving.cancel()
    await asyncio.gather(saving, return_exceptions=True)
    await node.kill_daemon()
    await node.restart()
    await node.reconciler.once()
    assert await add(node, 2) == 2


async def test_the_memory_of_a_paused_guest_is_refused(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    await node.run(SuspendGuest(vmid=100))
    with pytest.raises(Conflict, match="the guest is paused"):
        await node.run(TakeSnapshot(vmid=100, name="ram", memory=True))
    await node.run(TakeSnapshot(vmid=100, name="disks"))
    assert await inside(place) == [("disks",), ("disks",)]
