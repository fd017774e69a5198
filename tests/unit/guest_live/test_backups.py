"""Backups of real guests: stopped and running ones, one point in time over all disks, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from qcow2_guests import SUM, a_guest, add, holds, image, written

from racimo.errors import BadParameter, OperationFailed, Refused
from racimo.guest.backup import Mode
from racimo.guest.backup_operations import Backups, Vzdump, notes_of
from racimo.guest.operations import CreateGuest, StartGuest, StopGuest
from racimo.model.guest import Guest
from racimo.model.storage import Storage
from racimo.storage.base import Content
from racimo.storage.retention import Keep
from racimo.task.record import TaskFilter

if TYPE_CHECKING:
    from pathlib import Path

    from guest_nodes import Datacenter, GuestNode

    from racimo.storage.base import Volume


async def a_backed_guest(place: Datacenter, **config: str) -> GuestNode:
    """Guest 100 that boots a sum, with a pattern on its second disk, and a storage for backups."""
    path = str(place.root / "dump")
    place.storages["dump"] = Storage(id="dump", type="dir", path=path, content=("backup",), shared=True)
    node = await a_guest(place, SUM, **config)
    await written(image(place, 1), 7)
    return node


async def vzdump(node: GuestNode, *vmids: int, **wish: object) -> str:
    """The log of a backup."""
    operation = Vzdump(vmids=vmids or (100,), storage="dump", **wish)  # type: ignore[arg-type]
    record = await node.tasks.run(operation, Backups(node.life, node.tasks, "root@pam"))
    return "\n".join(line.t for line in (await node.tasks.log(record.upid, limit=0))[0])


async def backups(node: GuestNode) -> list[Volume]:
    return await node.volumes.volumes("dump", Content.BACKUP)


def unpacked(place: Datacenter) -> Path:
    (archive,) = (place.root / "dump" / "dump").glob("vzdump-*.tar.zst")
    folder = place.root / "out"
    folder.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(folder)], check=True)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], check=True, cwd=folder)
    return folder


def left_over(place: Datacenter) -> list[str]:
    return [path.name for path in (place.root / "dump").rglob(".*")]


async def test_a_stopped_guest_is_backed_up(place: Datacenter) -> None:
    node = await a_backed_guest(place, name="web")
    log = await vzdump(node, template="{{guestname}} of {{node}}\\nsecond line", protected=True)
    assert "Finished Backup of VM 100" in log
    (found,) = await backups(node)
    assert (found.vmid, found.notes, found.protected) == (100, "web of n1\nsecond line", True)
    folder = unpacked(place)
    assert await holds(folder / "disk-virtio1.qcow2", 7)
    about = json.loads((folder / "guest.json").read_text())
    assert about["config"] == (await node.layout.guests.get(100)).config and about["schema"] == 1
    assert about["disks"]["virtio1"]["storage"] == "shared" and left_over(place) == []


@pytest.mark.parametrize("mode", [Mode.SNAPSHOT, Mode.SUSPEND])
async def test_a_running_guest_is_backed_up_and_runs_on(place: Datacenter, mode: Mode) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    assert await add(node, 2) == 2
    log = await vzdump(node, mode=mode)
    assert "copying 2 disks of the running guest as they are now" in log
    assert await add(node, 3) == 5 and await node.states() == {100: "running"}
    monitor = await node.host.monitor(100)
    assert await monitor.execute("query-jobs") == []
    assert "backup-" not in str(await monitor.execute("query-named-block-nodes", {"flat": True}))
    assert await holds(unpacked(place) / "disk-virtio1.qcow2", 7) and left_over(place) == []


async def test_a_backup_holds_what_was_there_when_it_began(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    monitor = await node.host.monitor(100)
    services = Backups(node.life, node.tasks, "root@pam")
    upid = node.tasks.submit(Vzdump(vmids=(100,), storage="dump", limit=1 << 18), services)
    async with asyncio.timeout(30):
        record = node.tasks.status(upid)
        while "copying" not in record.doing:
            record = await node.tasks.wait(upid, seen=record.turn)
    for key in ("virtio0", "virtio1"):
        command = f'qemu-io -d /machine/peripheral/{key}/virtio-backend "write -P 8 0 64k"'
        await monitor.execute("human-monitor-command", {"command-line": command})
        await monitor.execute("block-job-set-speed", {"device": f"backup-{key}", "speed": 0})
    record = await node.tasks.wait(upid, 60)
    assert record.exitstatus == "OK"
    await node.run(StopGuest(vmid=100))
    folder = unpacked(place)
    for number, before in ((0, False), (1, True)):
        assert await holds(image(place, number), 8) and not await holds(folder / f"disk-virtio{number}.qcow2", 8)
        assert await holds(folder / f"disk-virtio{number}.qcow2", 7) is before


async def test_a_disk_that_says_so_is_left_out(place: Datacenter) -> None:
    node = await a_backed_guest(place, virtio2="shared:0.01,format=raw,backup=0")
    assert "virtio2 is left out" in await vzdump(node)
    assert sorted(path.name for path in unpacked(place).glob("disk-*")) == ["disk-virtio0.qcow2", "disk-virtio1.qcow2"]


async def test_one_bad_guest_stops_no_other(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await node.run(CreateGuest(vmid=101, config={"memory": "32"}))
    image(place, 1).unlink()
    with pytest.raises(OperationFailed, match="job errors"):
        await vzdump(node, 100, 999, 101)
    assert [each.vmid for each in await backups(node)] == [101] and left_over(place) == []


async def test_a_cancelled_backup_leaves_neither_job_nor_file(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    monitor = await node.host.monitor(100)
    services = Backups(node.life, node.tasks, "root@pam")
    upid = node.tasks.submit(Vzdump(vmids=(100,), storage="dump", limit=1 << 16), services)
    async with asyncio.timeout(30):
        record = node.tasks.status(upid)
        while "copying" not in record.doing:
            record = await node.tasks.wait(upid, seen=record.turn)
    node.tasks.cancel(upid)
    record = await node.tasks.wait(upid, 30)
    assert record.exitstatus is not None and "Cancelled" in record.exitstatus
    assert await monitor.execute("query-jobs") == [] and await backups(node) == [] and left_over(place) == []
    assert node.tasks.list(TaskFilter(running=True)) == []
    assert await add(node, 4) == 4
    assert "Finished Backup" in await vzdump(node)


async def test_what_a_daemon_that_died_left_in_qemu_is_cleaned_up_first(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    monitor = await node.host.monitor(100)
    path = place.root / "old.raw"
    path.touch()
    os.truncate(path, 1 << 20)
    await monitor.execute("blockdev-add", {"driver": "file", "node-name": "backup-virtio0-file", "filename": str(path)})
    file = {"driver": "raw", "node-name": "backup-virtio0", "file": "backup-virtio0-file"}
    await monitor.execute("blockdev-add", file)
    assert "Finished Backup" in await vzdump(node)


async def test_a_full_storage_is_refused_and_the_guest_runs_on(
    place: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    monkeypatch.setattr("racimo.guest.backup_space.RESERVE", 1 << 60)
    with pytest.raises(OperationFailed, match="job errors"):
        await vzdump(node)
    assert await backups(node) == [] and left_over(place) == [] and await add(node, 1) == 1


async def test_old_backups_go_when_there_is_a_new_one(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await vzdump(node, compress=False)
    (old,) = await backups(node)
    assert f"removed the backup {old.id}" in await vzdump(node, keep=Keep(last=1))
    (new,) = await backups(node)
    assert new.id != old.id


async def test_clients_back_up_list_and_prune(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await node.run(CreateGuest(vmid=101, config={"memory": "32"}))
    form = "vmid=100,101&storage=dump&mode=snapshot&compress=zstd&remove=0&prune-backups=keep-last=1&notes-template=hi"
    for _ in range(2):
        assert any("Finished Backup of VM 101" in line for line in await node.task("POST", "/vzdump", form, below=""))
    await node.task("POST", "/vzdump", "all=1&exclude=101&storage=dump&compress=0&protected=1", below="")
    listed: Any = await node.api("GET", "/storage/dump/content", "content=backup&vmid=100", below="")
    assert [(each["vmid"], each["format"]) for each in listed] == [(100, "tar.zst"), (100, "tar.zst"), (100, "tar")]
    assert listed[0]["notes"] == "hi" and listed[2]["protected"] == 1 and listed[0]["size"] > 0
    marks: Any = await node.api("GET", "/storage/dump/prunebackups", "prune-backups=keep-last=1", below="")
    assert [(each["vmid"], each["mark"]) for each in marks] == [
        (100, "protected"), (100, "keep"), (100, "remove"), (101, "keep"), (101, "remove"),
    ]  # fmt: skip
    await node.api("DELETE", "/storage/dump/prunebackups", "prune-backups=keep-last=1&vmid=100", below="")
    assert [each.vmid for each in await backups(node)] == [100, 100, 101, 101]


async def test_notes_and_protection_are_changed(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await vzdump(node, template="first", protected=True)
    (found,) = await backups(node)
    for name in (str(found.id), found.id.name):
        path = f"/storage/dump/content/{quote(name, safe='')}"
        await node.api("PUT", path, "notes=second&protected=0", below="")
        (changed,) = await backups(node)
        assert (changed.notes, changed.protected) == ("second", False)
        await node.api("PUT", path, "notes=&protected=1", below="")
        (changed,) = await backups(node)
        assert (changed.notes, changed.protected) == ("", True)
    with pytest.raises(Refused, match="racimo backup set dump:backup/"):
        await node.volumes.delete(found.id)


@pytest.mark.parametrize("form", ["", "vmid=100&all=1", "pool=none", "vmid=100&compress=lzo", "vmid=5", "vmid=x"])
async def test_a_request_that_names_no_guests_or_what_is_not_known_is_refused(place: Datacenter, form: str) -> None:
    node = await a_backed_guest(place)
    with pytest.raises(BadParameter):
        await node.api("POST", "/vzdump", f"{form}&storage=dump", below="")


async def test_a_guest_that_does_not_shut_down_for_its_backup_runs_on(
    place: Datacenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    monkeypatch.setattr("racimo.guest.backup.STOP_TIMEOUT", 0.2)
    with pytest.raises(OperationFailed, match="job errors"):
        await vzdump(node, mode=Mode.STOP)
    assert await add(node, 1) == 1 and await backups(node) == []


async def test_a_guest_that_was_shut_down_for_its_backup_is_started_again(place: Datacenter) -> None:
    node = await a_backed_guest(place)
    await node.run(StartGuest(vmid=100))
    assert await add(node, 9) == 9
    monitor = await node.host.monitor(100)

    async def pressed() -> None:
        with monitor.events("POWERDOWN") as events:
            async with asyncio.timeout(30):
                await events.get()
        await monitor.execute("quit")

    async with asyncio.TaskGroup() as group:
        group.create_task(pressed())
        assert "Finished Backup" in await vzdump(node, mode=Mode.STOP)
    assert await add(node, 1) == 1
    assert [each.vmid for each in await backups(node)] == [100]


def test_notes_know_a_backslash_from_a_new_line() -> None:
    guest = Guest(vmid=100, node="n1", config={"name": "web"})
    assert notes_of(r"a\nb\\n {{cluster}}/{{vmid}}", guest, "dc") == "a\nb\\n dc/100"
