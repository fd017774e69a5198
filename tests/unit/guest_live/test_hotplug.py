"""Devices of running guests: plugged, unplugged, changed, or pending until the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qcow2_guests import a_guest, image

from racimo.errors import Conflict
from racimo.guest.operations import ConfigureGuest, StartGuest, StopGuest
from racimo.guest.qemu.block_graph import drive_nodes

if TYPE_CHECKING:
    from guest_nodes import Datacenter, GuestNode

SCSI = {"scsihw": "virtio-scsi-pci", "scsi0": "shared:0.01,format=qcow2"}


async def a_running_guest(place: Datacenter, **config: str) -> GuestNode:
    node = await a_guest(place, **{**SCSI, **config})
    await node.run(StartGuest(vmid=100))
    return node


async def devices(node: GuestNode) -> set[str]:
    found: Any = await (await node.host.monitor(100)).execute("qom-list", {"path": "/machine/peripheral"})
    return {entry["name"] for entry in found}


async def waiting(node: GuestNode) -> dict[str, Any]:
    """What is pending: key to the value to come, None for what goes."""
    found: Any = await node.api("GET", "/100/pending")
    return {entry["key"]: entry.get("pending") for entry in found if "pending" in entry or "delete" in entry}


async def test_a_disk_is_plugged_in_and_out_while_the_guest_runs(place: Datacenter) -> None:
    node = await a_running_guest(place)
    log = await node.task("POST", "/100/config", "scsi1=shared%3A0.01%2Cformat%3Dqcow2")
    assert "scsi1: the running guest has it now" in log and "scsi1" in await devices(node)
    assert await waiting(node) == {}
    await node.api("PUT", "/100/config", "delete=scsi1")
    assert "scsi1" not in await devices(node)
    config: Any = await node.api("GET", "/100/config")
    assert config["unused0"].startswith("shared:100/vm-100-disk-3.qcow2")
    await node.api("PUT", "/100/unlink", "idlist=unused0")
    assert not image(place, 3).exists()


async def test_a_plugged_disk_of_its_own_controller_goes_with_it(place: Datacenter) -> None:
    node = await a_running_guest(place, scsihw="virtio-scsi-single")
    await node.run(ConfigureGuest(vmid=100, values={"scsi1": "shared:0.01,iothread=1"}))
    assert {"scsi1", "virtioscsi1"} <= await devices(node)
    objects: Any = await (await node.host.monitor(100)).execute("qom-list", {"path": "/objects"})
    assert "iothread-virtioscsi1" in {entry["name"] for entry in objects}


async def test_a_network_card_is_plugged_in_and_its_link_pulled(place: Datacenter) -> None:
    node = await a_running_guest(place)
    await node.api("PUT", "/100/config", "net0=virtio")
    assert "net0" in await devices(node) and await waiting(node) == {}
    mac = (await node.layout.guests.get(100)).config["net0"]
    log = await node.task("POST", "/100/config", f"net0={mac},link_down=1")
    assert "net0: the running guest has it now" in log and await waiting(node) == {}
    await node.api("PUT", "/100/config", f"net0={mac}")
    assert await waiting(node) == {}


async def test_what_cannot_be_plugged_is_pending_until_the_next_start(place: Datacenter) -> None:
    node = await a_running_guest(place, net0="virtio")
    mac = (await node.layout.guests.get(100)).config["net0"]
    await node.api("PUT", "/100/config", "memory=64&name=new&sata0=shared%3A0.01&delete=net0")
    found = await waiting(node)
    assert found["memory"] == "64" and found["net0"] is None and found["sata0"].startswith("shared:100/")
    assert "name" not in found
    current: Any = await node.api("GET", "/100/config", "current=1")
    wished: Any = await node.api("GET", "/100/config")
    assert (current["memory"], current["name"], current["net0"]) == (32, "new", mac)
    assert wished["memory"] == 64 and "net0" not in wished
    await node.run(StopGuest(vmid=100))
    assert await waiting(node) == {}
    await node.run(StartGuest(vmid=100))
    assert "net0" not in await devices(node) and "sata0" in await devices(node)


async def test_a_pending_change_is_dropped(place: Datacenter) -> None:
    node = await a_running_guest(place)
    await node.api("PUT", "/100/config", "memory=64&cores=2")
    await node.api("PUT", "/100/config", "revert=memory,cores")
    assert await waiting(node) == {}
    config: Any = await node.api("GET", "/100/config")
    assert config["memory"] == 32 and "cores" not in config


async def test_a_disk_that_the_running_guest_still_has_is_not_removed(place: Datacenter) -> None:
    node = await a_running_guest(place, sata0="shared:0.01,format=qcow2")
    await node.api("PUT", "/100/unlink", "idlist=sata0")
    assert "sata0" in await waiting(node)
    with pytest.raises(Conflict, match="the running guest has it as sata0"):
        await node.api("PUT", "/100/unlink", "idlist=unused0")
    await node.api("PUT", "/100/config", "revert=sata0")
    config: Any = await node.api("GET", "/100/config")
    assert "unused0" not in config and await waiting(node) == {}


async def test_the_option_hotplug_says_what_may_be_plugged(place: Datacenter) -> None:
    node = await a_running_guest(place, hotplug="network")
    await node.api("PUT", "/100/config", "scsi1=shared%3A0.01&net1=virtio")
    assert "net1" in await devices(node) and list(await waiting(node)) == ["scsi1"]
    await node.api("PUT", "/100/config", "hotplug=0")
    await node.api("PUT", "/100/config", "net2=virtio")
    assert set(await waiting(node)) == {"net2", "scsi1"}


async def test_a_plugged_disk_survives_the_daemon_and_a_migration(place: Datacenter) -> None:
    node, other = await a_running_guest(place), await place.add("n2")
    await node.run(ConfigureGuest(vmid=100, values={"scsi1": "shared:0.01,format=qcow2"}))
    await node.kill_daemon()
    await node.restart()
    await node.reconciler.once()
    assert await waiting(node) == {}
    await node.task("POST", "/100/migrate", "target=n2&online=1")
    assert "scsi1" in await drive_nodes(await other.host.monitor(100))


async def test_discs_are_changed_while_the_guest_runs(place: Datacenter) -> None:
    isos = place.root / "shared" / "template" / "iso"
    isos.mkdir(parents=True)
    (isos / "one.iso").write_bytes(bytes(1 << 16))
    (isos / "two.iso").write_bytes(bytes(1 << 17))
    node = await a_running_guest(place, ide2="shared:iso/one.iso,media=cdrom")
    monitor = await node.host.monitor(100)
    await node.api("PUT", "/100/config", "ide2=shared%3Aiso/two.iso%2Cmedia%3Dcdrom")
    assert (await drive_nodes(monitor))["ide2"].file == str(isos / "two.iso")
    await node.api("PUT", "/100/config", "ide2=none%2Cmedia%3Dcdrom")
    assert "ide2" not in await drive_nodes(monitor)
    await node.api("PUT", "/100/config", "ide2=shared%3Aiso/one.iso%2Cmedia%3Dcdrom")
    assert (await drive_nodes(monitor))["ide2"].file == str(isos / "one.iso") and await waiting(node) == {}


async def test_a_seed_is_made_anew_in_the_running_guest(place: Datacenter) -> None:
    node = await a_running_guest(place, ide2="shared:cloudinit", ciuser="anna")
    await node.api("PUT", "/100/config", "ciuser=ben")
    found: Any = await node.api("GET", "/100/cloudinit")
    assert found == [{"key": "ciuser", "value": "anna", "pending": "ben"}]
    before = (node.paths.guest_run(100) / "cloudinit.iso").read_bytes()
    await node.api("PUT", "/100/cloudinit")
    after = (node.paths.guest_run(100) / "cloudinit.iso").read_bytes()
    assert b"ben" in after and b"ben" not in before and await waiting(node) == {}
    assert "ide2" in await drive_nodes(await node.host.monitor(100))
    user: Any = await node.api("GET", "/100/cloudinit/dump", "type=user")
    assert 'user: "ben"' in user
