"""Single disks of real guests: grown, moved, given away, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qcow2_guests import SUM, a_guest, add, holds, image, inside, written

from racimo.errors import BadParameter, Conflict, NotFound, Refused
from racimo.guest.operations import CreateGuest, StartGuest, StopGuest
from racimo.guest.qemu.block_graph import drive_nodes
from racimo.guest.qemu.jobs import READY, add_target, follow_jobs
from racimo.guest.snapshot_operations import TakeSnapshot
from racimo.storage.images import image_info

if TYPE_CHECKING:
    from pathlib import Path

    from guest_nodes import Datacenter, GuestNode

MIB = 1 << 20


async def config(node: GuestNode, vmid: int = 100) -> dict[str, str]:
    return (await node.layout.guests.get(vmid)).config


def local(place: Datacenter, name: str) -> Path:
    return place.root / "local" / "images" / "100" / name


@pytest.mark.parametrize("running", [False, True])
async def test_a_disk_grows_and_never_shrinks(place: Datacenter, running: bool) -> None:
    node = await a_guest(place, virtio1="shared:1,format=qcow2")
    if running:
        await node.run(StartGuest(vmid=100))
    await node.task("PUT", "/100/resize", "disk=virtio1&size=%2B1G")
    assert (await config(node))["virtio1"].endswith("size=2G")
    await node.task("PUT", "/100/resize", "disk=virtio1&size=3G")
    assert (await image_info(image(place, 1))).size == 3072 * MIB
    with pytest.raises(BadParameter, match="shrinking loses data"):
        await node.task("PUT", "/100/resize", "disk=virtio1&size=1G")
    with pytest.raises(NotFound, match="Disk 'virtio7' of guest 100 does not exist"):
        await node.task("PUT", "/100/resize", "disk=virtio7&size=1G")
    with pytest.raises(BadParameter, match="size"):
        await node.task("PUT", "/100/resize", "disk=virtio1&size=large")
    with pytest.raises(Conflict, match="detected modified configuration"):
        await node.task("PUT", "/100/resize", "disk=virtio1&size=9G&digest=0000")


async def test_a_disk_that_has_grown_is_small_again_after_a_rollback(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    await node.run(TakeSnapshot(vmid=100, name="small"))
    await node.task("PUT", "/100/resize", "disk=virtio1&size=1G")
    await node.task("POST", "/100/snapshot/small/rollback")
    assert (await image_info(image(place, 1))).size < 16 * MIB
    await node.run(StartGuest(vmid=100))


async def test_a_disk_of_a_stopped_guest_moves_and_the_original_is_kept_or_goes(place: Datacenter) -> None:
    node = await a_guest(place)
    await written(image(place, 1), 7)
    await node.task("POST", "/100/move_disk", "disk=virtio1&storage=local&format=raw")
    found = await config(node)
    assert found["virtio1"].startswith("local:100/vm-100-disk-0.raw") and await holds(
        local(place, "vm-100-disk-0.raw"), 7
    )
    assert found["unused0"] == "shared:100/vm-100-disk-1.qcow2"
    await node.task("POST", "/100/move_disk", "disk=virtio0&storage=local&delete=1")
    assert not image(place, 0).exists()
    with pytest.raises(BadParameter, match="is on local already"):
        await node.task("POST", "/100/move_disk", "disk=virtio0&storage=local")


async def test_a_disk_moves_while_the_guest_runs_and_the_guest_uses_the_new_one(place: Datacenter) -> None:
    node = await a_guest(place, SUM)
    await written(image(place, 1), 7)
    await node.run(StartGuest(vmid=100))
    assert await add(node, 2) == 2
    for storage, kind in (("local", "raw"), ("shared", "qcow2")):
        await node.task("POST", "/100/move_disk", f"disk=virtio1&storage={storage}&format={kind}&delete=1")
    assert await add(node, 2) == 4
    found = await config(node)
    assert found["virtio1"].startswith("shared:100/vm-100-disk-1.qcow2") and "unused0" not in found
    assert list((place.root / "local").rglob("*.raw")) == []
    await node.run(TakeSnapshot(vmid=100, name="moved"))
    assert await inside(place) == [("moved",), ("moved",)]
    await node.task("PUT", "/100/resize", "disk=virtio1&size=1G")
    await node.run(StopGuest(vmid=100))
    assert await holds(image(place, 1), 7)
    await node.run(StartGuest(vmid=100))


async def test_a_guest_whose_disk_moved_while_it_ran_migrates_with_the_new_one(place: Datacenter) -> None:
    node, other = await a_guest(place, SUM), await place.add("n2")
    await node.run(StartGuest(vmid=100))
    assert await add(node, 2) == 2
    await node.task("POST", "/100/move_disk", "disk=virtio1&storage=shared&format=raw&delete=1")
    await node.task("POST", "/100/migrate", "target=n2&online=1")
    assert await add(other, 1) == 3
    nodes = await drive_nodes(await other.host.monitor(100))
    assert nodes["virtio1"].format == "raw"


@pytest.mark.parametrize("committed", [False, True])
async def test_a_move_that_was_cut_off_is_settled_by_the_record(place: Datacenter, committed: bool) -> None:
    node = await a_guest(place, SUM)
    await node.run(StartGuest(vmid=100))
    monitor, new = await node.host.monitor(100), local(place, "vm-100-disk-0.raw")
    volumes = node.life.assembly.volumes
    made = await volumes.allocate("local", 100, (await drive_nodes(monitor))["virtio1"].size, image_format="raw")
    await add_target(monitor, "moved-virtio1-1", await volumes.block(made))
    settings = {"job-id": "move-virtio1", "device": "drive-virtio1", "target": "moved-virtio1-1", "sync": "full"}
    await monitor.execute("blockdev-mirror", {**settings, "copy-mode": "write-blocking", "auto-dismiss": False})
    await follow_jobs(monitor, ["move-virtio1"], READY, lambda _: None)
    if committed:
        view = await node.life.records.owned(100)
        await node.life.records.configure(
            view, {**view.guest.config, "virtio1": f"{made},size={(await volumes.volume(made)).size}"}
        )
    await node.kill_daemon()
    await node.restart()
    await node.reconciler.once()
    monitor = await node.host.monitor(100)
    assert await monitor.execute("query-jobs") == []
    used = (await drive_nodes(monitor))["virtio1"].file
    assert used == str(new if committed else image(place, 1))
    assert await add(node, 2) == 2


async def test_a_disk_that_a_snapshot_needs_is_not_removed(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(TakeSnapshot(vmid=100, name="one"))
    with pytest.raises(Refused, match="the snapshots one need it"):
        await node.task("POST", "/100/move_disk", "disk=virtio1&storage=local&delete=1")
    await node.api("PUT", "/100/unlink", "idlist=virtio1")
    for form in ("idlist=unused0", "idlist=virtio0&force=1"):
        with pytest.raises(Refused, match="the snapshots one need it"):
            await node.api("PUT", "/100/unlink", form)


async def test_an_unplugged_disk_is_kept_and_removed_for_good_when_asked_again(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.api("PUT", "/100/unlink", "idlist=virtio1")
    assert (await config(node))["unused0"].startswith("shared:100/vm-100-disk-1.qcow2")
    await node.api("PUT", "/100/unlink", "idlist=unused0")
    assert "unused0" not in await config(node) and not image(place, 1).exists()
    await node.api("PUT", "/100/unlink", "idlist=virtio0&force=1")
    assert not image(place, 0).exists()


async def test_a_disk_is_given_to_another_guest(place: Datacenter) -> None:
    node = await a_guest(place)
    await written(image(place, 1), 7)
    await node.run(CreateGuest(vmid=101, config={"memory": "32"}))
    await node.task("POST", "/100/move_disk", "disk=virtio1&target-vmid=101&target-disk=scsi0")
    assert "virtio1" not in await config(node)
    assert (await config(node, 101))["scsi0"].startswith("shared:101/vm-101-disk-0.qcow2")
    assert await holds(image(place, 0, 101), 7) and not image(place, 1).exists()
    await node.run(StartGuest(vmid=101))
    with pytest.raises(Conflict, match="guest 101 runs"):
        await node.task("POST", "/100/move_disk", "disk=virtio0&target-vmid=101")
    with pytest.raises(BadParameter, match="is the guest itself"):
        await node.task("POST", "/100/move_disk", "disk=virtio0&target-vmid=100")


async def test_where_to_is_asked_for(place: Datacenter) -> None:
    node = await a_guest(place)
    for form in ("disk=virtio0", "disk=virtio0&storage=local&target-vmid=101"):
        with pytest.raises(BadParameter, match="storage"):
            await node.task("POST", "/100/move_disk", form)
    found: Any = await node.api("GET", "/100/config")
    assert "unused0" not in found
