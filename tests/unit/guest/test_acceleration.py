"""Whether a node accelerates guests is found out by running one, not by looking for a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from racimo.errors import OperationFailed
from racimo.guest.qemu.acceleration import cpu_flags, find_acceleration, run_probe
from racimo.guest.qemu.machine import find_hypervisor


async def test_the_probe_guest_reaches_long_mode_and_ends_by_itself() -> None:
    result = await run_probe("tcg", timeout=20)
    assert result.ran, result.why


async def test_this_node_is_judged_with_a_reason() -> None:
    found = await find_acceleration()
    if not cpu_flags() & {"vmx", "svm"}:
        assert found.kind == "tcg"
        assert "neither vmx nor svm" in found.reason or "does not exist" in found.reason
    else:
        assert found.reason


async def test_a_cpu_that_claims_to_but_cannot_is_not_believed() -> None:
    """Where the flag lies, the probe guest decides."""
    if cpu_flags() & {"vmx", "svm"}:
        pytest.skip("this CPU has hardware virtualisation")
    found = await find_acceleration(flags=frozenset({"vmx"}), device=Path("/dev/null"))
    assert found.kind == "tcg"
    assert "KVM is there but the probe guest" in found.reason


async def test_a_node_without_the_device_or_of_another_architecture_emulates(tmp_path: Path) -> None:
    missing = await find_acceleration(flags=frozenset({"svm"}), device=tmp_path / "kvm")
    assert (missing.kind, missing.reason) == ("tcg", f"{tmp_path}/kvm does not exist, so guests are emulated")
    other = await find_acceleration(machine="aarch64")
    assert other.kind == "tcg" and "aarch64" in other.reason


async def test_a_guest_that_hangs_is_ended_and_named(tmp_path: Path) -> None:
    slow = tmp_path / "qemu"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    result = await run_probe("kvm", str(slow), timeout=0.2)
    assert (result.ran, result.why) == (False, "the probe guest hung for 0.2 s")


async def test_a_missing_qemu_says_what_to_install() -> None:
    with pytest.raises(OperationFailed, match="Install qemu-system-x86"):
        await run_probe("tcg", "/nonexistent/qemu")
    with pytest.raises(OperationFailed, match="Install qemu-system-x86"):
        await find_hypervisor("/nonexistent/qemu", await find_acceleration())


async def test_qemu_says_what_it_offers() -> None:
    found = await find_hypervisor()
    assert found.machines[0].startswith("pc-i440fx-") and found.machines[1].startswith("pc-q35-")
    assert found.machines[0].split("-")[2] == ".".join(found.version.split(".")[:2])
    assert "kvm64" in found.cpu_models
