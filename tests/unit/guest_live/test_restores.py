"""Guests restored from real archives: as new ones, in place of the old one, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qcow2_guests import SUM, a_guest, add, holds, image, written

from racimo.errors import AlreadyExists, Conflict, OperationFailed, Unauthorised
from racimo.guest.backup_operations import Backups, Vzdump
from racimo.guest.operations import DestroyGuest, StartGuest
from racimo.guest.restore import RestoreGuest
from racimo.guest.snapshot_operations import TakeSnapshot
from racimo.model.storage import Storage
from racimo.storage.base import Content, VolumeId

if TYPE_CHECKING:
    from guest_nodes import Datacenter, GuestNode


async def a_backup(place: Datacenter, **config: str) -> tuple[GuestNode, str]:
    """Guest 100, whose second disk began with 7s when it was backed up, and with 8s now."""
    path = str(place.root / "dump")
    place.storages["dump"] = Storage(id="dump", type="dir", path=path, content=("backup",), shared=True)
    node = await a_guest(place, SUM, **config)
    await written(image(place, 1), 7)
    await node.tasks.run(Vzdump(vmids=(100,), storage="dump"), Backups(node.life, node.tasks, "root@pam"))
    await written(image(place, 1), 8)
    (found,) = await node.volumes.volumes("dump", Content.BACKUP)
    return node, str(found.id)


def files(place: Datacenter) -> list[str]:
    every = [path for path in place.root.rglob("*") if path.is_file()]
    return sorted(path.name for path in every if path.suffix in {".qcow2", ".raw", ".tmp"} and path.name != "boot.raw")


async def test_a_guest_is_restored_under_a_new_number(place: Datacenter) -> None:
    node, archive = await a_backup(place, net0="virtio", name="web")
    log = await node.task("POST", "", f"vmid=101&archive={archive}&name=shop&start=1")
    assert "has the same MAC addresses" in " ".join(log)
    assert await add(node, 5, 101) == 5
    old, new = (await node.layout.guests.get(100)).config, (await node.layout.guests.get(101)).config
    assert (new["name"], new["net0"], new["smbios1"]) == ("shop", old["net0"], old["smbios1"])
    assert new["vmgenid"] != old["vmgenid"] and ".qcow2" in new["virtio1"]
    await node.task("POST", "/101/status/stop")
    assert await holds(image(place, 1, 101), 7) and await holds(image(place, 1), 8)
    assert not [name for name in files(place) if name.endswith(".tmp")]


async def test_a_unique_guest_has_another_identity(place: Datacenter) -> None:
    node, archive = await a_backup(place, net0="virtio")
    await node.task("POST", "", f"vmid=101&archive={archive}&unique=1&storage=local")
    old, new = (await node.layout.guests.get(100)).config, (await node.layout.guests.get(101)).config
    assert all(old[key] != new[key] for key in ("net0", "smbios1", "vmgenid"))
    assert new["virtio1"].startswith("local:101/")


async def test_a_guest_that_is_gone_comes_back(place: Datacenter) -> None:
    node, archive = await a_backup(place)
    await node.run(DestroyGuest(vmid=100))
    await node.task("POST", "", f"vmid=100&archive={archive}")
    assert await holds(image(place, 1), 7)


async def test_a_guest_is_replaced_only_by_force_and_when_it_is_stopped(place: Datacenter) -> None:
    node, archive = await a_backup(place)
    before = files(place)
    with pytest.raises(AlreadyExists, match="force"):
        await node.task("POST", "", f"vmid=100&archive={archive}")
    await node.run(StartGuest(vmid=100))
    with pytest.raises(Conflict, match="is running"):
        await node.task("POST", "", f"vmid=100&archive={archive}&force=1")
    assert files(place) == before


async def test_a_replaced_guest_keeps_the_disks_that_are_never_backed_up(place: Datacenter) -> None:
    node, archive = await a_backup(place, virtio2="shared:0.01,format=qcow2,backup=0")
    await written(image(place, 2), 9)
    await node.run(TakeSnapshot(vmid=100, name="one"))
    await node.task("POST", "", f"vmid=100&archive={archive}&force=1")
    guest = await node.layout.guests.get(100)
    assert guest.snapshots == {} and "virtio2" not in guest.config
    assert guest.config["unused0"] == "shared:100/vm-100-disk-2.qcow2" and await holds(image(place, 2), 9)
    assert await holds(place.root / "shared" / "images" / guest.config["virtio1"].split(":")[1].split(",")[0], 7)
    assert len(list((place.root / "shared" / "images" / "100").iterdir())) == 3


async def test_a_broken_archive_changes_nothing(place: Datacenter) -> None:
    node, archive = await a_backup(place)
    (path,) = (place.root / "dump" / "dump").glob("vzdump-*")
    path.write_bytes(path.read_bytes()[:-200])
    before, guest = files(place), await node.layout.guests.get(100)
    for form in ("vmid=100&force=1", "vmid=101"):
        with pytest.raises(OperationFailed):
            await node.task("POST", "", f"{form}&archive={archive}")
    assert files(place) == before and await node.layout.guests.get(100) == guest
    assert await node.layout.guests.find(101) is None


async def test_only_root_brings_back_words_of_qemus_own_command_line(place: Datacenter) -> None:
    node, archive = await a_backup(place, args="-no-hpet")
    before = files(place)
    with pytest.raises(Unauthorised, match="only root can set 'args'"):
        await node.run(RestoreGuest(vmid=101, archive=VolumeId.parse(archive), by_root=False))
    assert files(place) == before and await node.layout.guests.find(101) is None
    await node.run(RestoreGuest(vmid=101, archive=VolumeId.parse(archive)))
    assert (await node.layout.guests.get(101)).config["args"] == "-no-hpet"
