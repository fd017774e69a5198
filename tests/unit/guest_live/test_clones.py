"""Templates and clones of real images, of stopped and running guests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from qcow2_guests import SUM, a_guest, add, holds, image, written

from racimo.errors import AlreadyExists, BadParameter, Conflict, Refused
from racimo.guest.operations import DestroyGuest, StartGuest, StopGuest
from racimo.guest.snapshot_operations import TakeSnapshot
from racimo.storage.images import image_info

if TYPE_CHECKING:
    from guest_nodes import Datacenter, GuestNode


async def config(node: GuestNode, vmid: int) -> dict[str, str]:
    return (await node.layout.guests.get(vmid)).config


def files(place: Datacenter) -> list[str]:
    return sorted(path.name for path in (place.root / "shared").rglob("*") if path.is_file())


async def test_a_clone_of_a_stopped_guest_has_its_own_disks_and_identity(place: Datacenter) -> None:
    node = await a_guest(place, net0="virtio", name="web", description="first")
    await written(image(place, 1), 5)
    await node.task("POST", "/100/clone", "newid=101&name=shop&full=1")
    assert await holds(image(place, 1, 101), 5)
    old, new = await config(node, 100), await config(node, 101)
    assert (new["name"], new["description"], new["memory"]) == ("shop", "first", "32")
    assert all(old[key] != new[key] for key in ("net0", "smbios1", "vmgenid", "virtio0", "virtio1"))
    assert old["machine"] == new["machine"]
    await node.run(DestroyGuest(vmid=100))
    await node.run(StartGuest(vmid=101))
    assert await node.states() == {101: "running"}


async def test_a_running_guest_is_cloned_as_it_is_on_disk_and_runs_on(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await written(image(place, 1), 9)
    await node.run(StartGuest(vmid=100))
    log = await node.task("POST", "/100/clone", "newid=101&storage=local&format=raw")
    assert "copying 2 disks of the running guest as they are now" in log
    assert await holds(place.root / "local" / "images" / "101" / "vm-101-disk-1.raw", 9)
    assert await add(node, 4) == 4
    monitor = await node.host.monitor(100)
    assert await monitor.execute("query-jobs") == []
    assert "copy" not in str(await monitor.execute("query-named-block-nodes", {"flat": True}))
    await node.run(StartGuest(vmid=101))
    assert await add(node, 6, 101) == 6


async def test_a_clone_of_a_snapshot_has_what_it_held(place: Datacenter) -> None:
    node = await a_guest(place)
    await written(image(place, 1), 1)
    await node.run(TakeSnapshot(vmid=100, name="one"))
    await written(image(place, 1), 2)
    await node.run(StartGuest(vmid=100))
    await node.task("POST", "/100/clone", "newid=101&snapname=one")
    assert await holds(image(place, 1, 101), 1)
    assert (await image_info(image(place, 1, 101))).snapshots == ()


async def test_linked_clones_share_the_disks_of_their_template_and_protect_it(place: Datacenter) -> None:
    node = await a_guest(place)
    await written(image(place, 1), 3)
    with pytest.raises(Refused, match="it is no template"):
        await node.task("POST", "/100/clone", "newid=101&full=0")
    await node.task("POST", "/100/template")
    assert files(place) == ["base-100-disk-0.qcow2", "base-100-disk-1.qcow2"]
    await node.task("POST", "/100/clone", "newid=101")
    clone = await image_info(image(place, 1, 101))
    assert clone.backing == "../100/base-100-disk-1.qcow2" and await holds(image(place, 1, 101), 3)
    with pytest.raises(Refused, match=r"linked clones need it: 101/vm-101-disk-0\.qcow2"):
        await node.run(DestroyGuest(vmid=100))
    with pytest.raises(Refused, match="templates never run"):
        await node.run(StartGuest(vmid=100))
    await node.run(StartGuest(vmid=101))
    await node.run(StopGuest(vmid=101))
    await node.task("POST", "/101/clone", "newid=102&full=1")
    assert (await image_info(image(place, 1, 102))).backing is None and await holds(image(place, 1, 102), 3)
    await node.run(DestroyGuest(vmid=101))
    await node.run(DestroyGuest(vmid=100))
    assert files(place) == ["vm-102-disk-0.qcow2", "vm-102-disk-1.qcow2"]


async def test_a_linked_clone_has_snapshots_and_a_template_has_none(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(TakeSnapshot(vmid=100, name="one"))
    with pytest.raises(Refused, match="it has snapshots"):
        await node.task("POST", "/100/template")
    await node.task("DELETE", "/100/snapshot/one")
    await node.task("POST", "/100/template")
    await node.task("POST", "/100/clone", "newid=101&full=0")
    with pytest.raises(Refused, match="is a template"):
        await node.run(TakeSnapshot(vmid=100, name="two"))
    await node.task("POST", "/101/snapshot", "snapname=two")
    await written(image(place, 1, 101), 8)
    await node.task("POST", "/101/snapshot/two/rollback")
    assert not await holds(image(place, 1, 101), 8)


async def test_a_number_that_is_taken_and_a_bad_name_make_no_copies(place: Datacenter) -> None:
    node = await a_guest(place)
    before = files(place)
    with pytest.raises(AlreadyExists, match="Guest 100 already exists"):
        await node.task("POST", "/100/clone", "newid=100")
    with pytest.raises(BadParameter, match="name"):
        await node.task("POST", "/100/clone", "newid=101&name=a+b")
    with pytest.raises(BadParameter, match="pool 'none' does not exist"):
        await node.task("POST", "/100/clone", "newid=101&pool=none")
    assert files(place) == before


async def test_a_clone_goes_to_another_node_if_its_disks_are_shared(place: Datacenter) -> None:
    node = await a_guest(place)
    await place.add("n2")
    await node.task("POST", "/100/clone", "newid=101&target=n2")
    assert (await node.layout.guests.get(101)).node == "n2"
    before = files(place)
    with pytest.raises(Refused, match="would exist on node n1 only"):
        await node.task("POST", "/100/clone", "newid=102&target=n2&storage=local")
    assert files(place) == before and await node.layout.guests.find(102) is None


async def test_a_cancelled_clone_of_a_running_guest_leaves_nothing(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await node.run(StartGuest(vmid=100))
    before, monitor = files(place), await node.host.monitor(100)
    with monitor.events("JOB_STATUS_CHANGE") as events:
        upid: Any = await node.api("POST", "/100/clone", "newid=101")
        async with asyncio.timeout(20):
            await events.get()
        node.tasks.cancel(upid)
        record = await node.tasks.wait(upid, 30)
    assert record.failure is not None
    assert files(place) == before and await monitor.execute("query-jobs") == []
    assert await add(node, 1) == 1


async def test_a_guest_that_runs_becomes_no_template(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    with pytest.raises(Conflict, match="Guest 100 is running"):
        await node.task("POST", "/100/template")
