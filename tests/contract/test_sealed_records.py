"""Sealed records in every backend: what lies on the disk of the store shows no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.fence import FenceDevice
from racimo.model.notification import Target, TargetKind
from racimo.store.collection import Collection
from racimo.store.sealing import Keyring, Sealing, dump_ring, new_sealing_key

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Backend


async def test_a_secret_comes_back_and_no_stored_byte_shows_it(backend: Backend, tmp_path: Path) -> None:
    file, key = tmp_path / "sealing.json", new_sealing_key()
    file.write_bytes(dump_ring(Keyring(datacenter="dc", current=key.id, keys=(key,))))
    sealing = Sealing(file)
    targets = Collection(backend.store, f"{backend.root}targets/", Target)
    devices = Collection(backend.store, f"{backend.root}devices/", FenceDevice)
    target = Target(name="ops", kind=TargetKind.SMTP, password="grapes-4711", headers={"A": "grapes-4712"})
    device = FenceDevice(name="bmc", node="n1", agent="fence_x", secrets={"password": "grapes-4713"})
    await targets.create("ops", sealing.seal_record(targets.key("ops"), target))
    await devices.create("bmc", sealing.seal_record(devices.key("bmc"), device))
    stored = (await backend.store.list(backend.root)).records
    assert len(stored) == 2
    assert not [record for record in stored if b"grapes" in record.value]
    assert sealing.open_record(targets.key("ops"), await targets.get("ops")) == target
    assert sealing.open_record(devices.key("bmc"), await devices.get("bmc")) == device
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"grapes" not in path.read_bytes()
