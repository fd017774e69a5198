"""QEMU's command line, against golden files.

Each ``golden/<name>.json`` holds a configuration, a launch and the argv that follows. After a wanted change write them
anew with ``RACIMO_WRITE_GOLDEN=1`` and read the difference: running guests meet it at their next migration.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from racimo.errors import Refused
from racimo.guest.config import parse_config
from racimo.guest.qemu.acceleration import Acceleration
from racimo.guest.qemu.command_line import Launch, command_line, tap_name
from racimo.guest.qemu.machine import Hypervisor, cpu_argument, pin_machine
from racimo.storage.base import BlockSource

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
TCG = Hypervisor(
    version="7.2.22", machines=("pc-i440fx-7.2", "pc-q35-7.2", "pc-i440fx-7.1", "pc-q35-7.1"), netboot=True, cpus=2
)
KVM = Hypervisor(
    version="7.2.22", machines=TCG.machines, netboot=True, cpus=8, vhost=True, acceleration=Acceleration("kvm", "ran")
)


def a_launch(machine: str = "pc-i440fx-7.2", **changes: Any) -> Launch:
    return Launch(
        **{
            "vmid": 100, "node": "n1", "epoch": 3, "machine": machine,
            "run": Path("/run/racimo/guests/100"), "log": Path("/var/log/racimo/guests/100"), **changes,
        }
    )  # fmt: skip


def blocks_of(golden: dict[str, Any]) -> dict[str, BlockSource]:
    return {key: BlockSource(**source) for key, source in golden["blocks"].items()}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_command_line_is_the_one_in_the_golden_file(path: Path) -> None:
    golden = json.loads(path.read_text())
    config = parse_config(golden["config"])
    hypervisor = KVM if golden["kvm"] else TCG
    launch = a_launch(pin_machine(config.machine, hypervisor), blocks=blocks_of(golden), **golden["launch"])
    argv = command_line(config, hypervisor, launch)
    if os.environ.get("RACIMO_WRITE_GOLDEN"):
        path.write_text(json.dumps({**golden, "argv": argv}, indent=1) + "\n")
    assert argv == golden["argv"]


def test_the_name_is_the_argv_element_by_which_the_guard_finds_it() -> None:
    argv = command_line(parse_config({}), TCG, a_launch())
    assert argv[argv.index("-name") + 1] == "racimo-guest-100"


def test_a_guest_always_starts_paused() -> None:
    assert "-S" in command_line(parse_config({}), TCG, a_launch())
    assert "-S" in command_line(parse_config({}), KVM, a_launch(incoming=True))


def test_node_and_epoch_have_the_same_length_on_every_node() -> None:
    one = command_line(parse_config({}), TCG, a_launch(node="n1", epoch=9))
    two = command_line(parse_config({}), TCG, a_launch(node="a-longer-name", epoch=10))
    lengths = [[len(text) for text in argv if "opt/io.racimo" in text] for argv in (one, two)]
    assert lengths[0] == lengths[1]
    assert "name=opt/io.racimo/epoch,string=10".ljust(len("name=opt/io.racimo/epoch,string=") + 64) in two


def test_a_target_differs_from_its_source_only_in_node_epoch_and_incoming() -> None:
    config = parse_config({"cpu": "host", "net0": "virtio=02:00:00:00:00:01,bridge=vmbr0", "agent": "1"})
    source = command_line(config, KVM, a_launch(cpu="Haswell"))
    target = command_line(config, KVM, a_launch(cpu="Haswell", node="n2", epoch=4, incoming=True))
    assert target[-2:] == ["-incoming", "defer"]
    different = [text for text, other in zip(source, target[:-2], strict=True) if text != other]
    assert len(different) == 2 and all("opt/io.racimo" in text for text in different)


def test_plain_emulation_is_used_where_the_guest_asks_for_it() -> None:
    assert "kvm" in command_line(parse_config({}), KVM, a_launch())
    argv = command_line(parse_config({"kvm": "0"}), KVM, a_launch())
    assert argv[argv.index("-accel") + 1].startswith("tcg")
    assert argv[argv.index("-cpu") + 1] == "kvm64"


def test_direct_access_is_asked_for_only_where_the_file_system_has_it() -> None:
    config = parse_config({"virtio0": "st:100/vm-100-disk-0.raw,aio=native"})
    for direct, aio in ((True, "native"), (False, "threads")):
        source = BlockSource(format="raw", protocol={"driver": "file", "filename": "/x"}, direct=direct)
        argv = command_line(config, TCG, a_launch(blocks={"virtio0": source}))
        node = json.loads(next(text for text in argv if '"node-name":"file-virtio0"' in text))
        assert node["cache"]["direct"] is direct
        assert node["aio"] == aio


def test_uefi_is_refused_where_its_firmware_is_missing() -> None:
    with pytest.raises(Refused, match="Install the package ovmf"):
        command_line(parse_config({"bios": "ovmf"}), TCG, a_launch())


def test_a_drive_that_was_not_resolved_is_refused() -> None:
    with pytest.raises(Refused, match="scsi0"):
        command_line(parse_config({"scsi0": "local:100/vm-100-disk-0.raw"}), TCG, a_launch())


def test_a_machine_type_is_pinned_to_the_newest_and_an_unknown_one_is_refused() -> None:
    assert pin_machine("pc", TCG) == "pc-i440fx-7.2"
    assert pin_machine("q35", TCG) == "pc-q35-7.2"
    assert pin_machine("pc-q35-7.1+pve0", TCG) == "pc-q35-7.1"
    with pytest.raises(Refused, match="its newest are pc-i440fx-7"):
        pin_machine("pc-q35-9.0", TCG)


@pytest.mark.parametrize(
    ("cpu", "under_tcg", "under_kvm"),
    [
        ("kvm64", "kvm64", "kvm64,+kvm_pv_eoi,+kvm_pv_unhalt,enforce"),
        ("host", "max", "host,+kvm_pv_eoi,+kvm_pv_unhalt"),
        ("x86-64-v2,flags=-popcnt", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,-popcnt", None),
        ("Haswell,hidden=1", "Haswell", "Haswell,kvm=off,enforce"),
    ],
)
def test_the_cpu_model_is_explicit(cpu: str, under_tcg: str, under_kvm: str | None) -> None:
    config = parse_config({"cpu": cpu})
    assert cpu_argument(config, TCG) == under_tcg
    if under_kvm:
        assert cpu_argument(config, KVM) == under_kvm


def test_a_cpu_model_that_qemu_does_not_know_is_refused() -> None:
    known = Hypervisor(cpu_models=frozenset({"kvm64"}))
    with pytest.raises(Refused, match="Choose another model"):
        cpu_argument(parse_config({"cpu": "Pentium9"}), known)


def test_the_longest_tap_name_is_one_that_linux_allows() -> None:
    assert len(tap_name(999_999_999, 31)) == 15
