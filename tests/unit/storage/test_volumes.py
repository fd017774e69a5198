"""Which storages and volumes a node may use, and what it says of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from racimo.errors import BadParameter, NotFound, Refused
from racimo.model.storage import Storage
from racimo.storage.filesystem import find_file_system
from racimo.storage.volumes import Volumes, check_definition

MIB = 1 << 20


def volumes_of(*storages: Storage, node: str = "n1") -> Volumes:
    return Volumes(lambda: {storage.id: storage for storage in storages}, node)


async def test_a_volume_is_found_through_its_storage(tmp_path: Path) -> None:
    volumes = volumes_of(Storage(id="local", type="dir", path=str(tmp_path), shared=True))
    made = await volumes.allocate("local", 100, MIB)
    assert (await volumes.volume(str(made))).size == MIB
    block = await volumes.block(made)
    assert block.protocol == {"driver": "file", "filename": str(tmp_path / "images/100/vm-100-disk-0.raw")}
    assert block.shared and volumes.is_shared(made)
    copy = await volumes.import_image("local", 101, str(made), image_format="qcow2")
    await volumes.resize(copy, 2 * MIB)
    assert [str(volume.id) for volume in await volumes.volumes("local")] == [str(made), str(copy)]
    await volumes.delete(str(copy))
    await volumes.delete(made)
    assert await volumes.volumes("local") == []


def test_a_storage_that_this_node_cannot_use_is_refused_with_the_reason(tmp_path: Path) -> None:
    volumes = volumes_of(
        Storage(id="elsewhere", type="dir", path=str(tmp_path), nodes=("n2", "n3")),
        Storage(id="switched-off", type="dir", path=str(tmp_path), disabled=True),
        Storage(id="future", type="quantum", path=str(tmp_path)),
    )
    with pytest.raises(NotFound, match="the datacenter has elsewhere, future, switched-off"):
        volumes.driver("local")
    with pytest.raises(Refused, match="it is only on n2, n3"):
        volumes.driver("elsewhere")
    with pytest.raises(Refused, match="it is disabled"):
        volumes.driver("switched-off")
    with pytest.raises(Refused, match="this version does not know the type quantum"):
        volumes.driver("future")
    assert [storage.id for storage in volumes.usable()] == ["future"]


async def test_a_malformed_volume_id_is_a_bad_parameter(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="is not a volume name"):
        await volumes_of(Storage(id="local", type="dir", path=str(tmp_path))).block("local:../../etc/passwd")


def test_a_changed_definition_is_seen_at_once(tmp_path: Path) -> None:
    known = {"local": Storage(id="local", type="dir", path=str(tmp_path))}
    volumes = Volumes(lambda: known, "n1")
    assert volumes.driver("local") is volumes.driver("local")
    assert not volumes.is_shared("local:100/vm-100-disk-0.raw")
    known["local"] = Storage(id="local", type="dir", path=str(tmp_path), shared=True)
    assert volumes.is_shared("local:100/vm-100-disk-0.raw")


def test_a_definition_is_checked_and_every_wrong_field_is_named() -> None:
    check_definition(Storage(id="local", type="dir", path="/srv/x", options=(("is_mountpoint", "1"),)))
    with pytest.raises(BadParameter) as caught:
        check_definition(
            Storage(id="1x", type="tape", path="srv/../x", content=("images", "music"), options=(("colour", "red"),))
        )
    assert set(caught.value.parameters) == {"storage", "type", "path", "content", "colour"}


MOUNTS = """22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /mnt/pve/nfs\\040one rw shared:9 - nfs4 server:/export rw,vers=4.2
31 30 0:51 / /mnt/pve/nfs\\040one/local rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [("/srv", "ext4", False), ("/mnt/pve/nfs one/images", "nfs4", True), ("/mnt/pve/nfs one/local/x", "tmpfs", False)],
)
def test_the_file_system_of_a_path_is_the_innermost_mount(path: str, kind: str, network: bool) -> None:
    found = find_file_system(Path(path), MOUNTS)
    assert (found.type, found.network) == (kind, network)


def test_this_machine_has_a_root_file_system() -> None:
    assert find_file_system(Path("/")).type != "unknown"
