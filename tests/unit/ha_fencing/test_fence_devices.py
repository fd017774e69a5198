"""Fence devices as administrators handle them, checked against what a real program says of itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, OperationFailed, Refused
from racimo.ha.fencing.devices import DeviceChange, FenceDevices, shown
from racimo.ha.fencing.proofs import fenceable, proofs_of
from racimo.ha.fencing.trial import TryFence
from racimo.ha.timing import PROFILES
from racimo.model.fence import FenceCheck, FenceDevice
from racimo.model.guest import RunState, Runtime
from racimo.model.node import Node
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.sealing import is_sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Bench


@pytest.fixture
async def devices(bench: Bench) -> AsyncIterator[FenceDevices]:
    """A datacenter of n1, n2 and the witness w, as n2 sees it."""
    store = MemoryStore()
    layout = Layout(store)
    for name in ("n1", "n2", "w"):
        await layout.nodes.create(name, Node(name=name, id=name, address=name, witness=name == "w"))
    yield FenceDevices(layout, bench.programs, "n2")
    await store.close()


class Told:
    """What an operation reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, fraction: float, text: str = "") -> None:
        self.lines.append(text)


async def test_a_device_is_kept_with_its_secret_sealed(devices: FenceDevices) -> None:
    device = await devices.add("n1", "fence_fake", options={"plug": "4", "ssl": "1"}, secrets={"password": "grapes"})
    assert device.name == "n1-fake"
    (line,) = await devices.lines()
    assert line.check is None
    assert shown(line.device) == {"plug": "4", "ssl": "1", "password": "***"}
    assert is_sealed(line.device.secrets["password"])
    assert "grapes" not in repr(line.device)
    assert b"grapes" not in await everything(devices)


async def everything(devices: FenceDevices) -> bytes:
    """All that stands in the store, as a backup holds it."""
    return b"".join(record.value for record in (await devices._layout.store.list(ROOT)).records)


async def test_a_program_is_told_the_secret_and_says_so_when_its_key_is_lost(
    devices: FenceDevices, bench: Bench
) -> None:
    bench.device("n1", "4")
    device = await devices.add("n1", "fence_fake", options={"plug": "4"}, secrets={"password": "grapes"})
    bench.fault(replace(device, name="4"), "error")
    assert (await bench.programs.ask(device, "off")).said == "Failed: login denied for ***"  # it repeats what it got
    (bench.directory / "sealing.json").unlink()
    answer = await bench.programs.ask(device, "off")
    assert not answer.ok
    assert "lacks the key" in answer.said and "rotate-key --force" in answer.said


async def test_a_sealed_secret_opens_for_its_own_device_alone(devices: FenceDevices, bench: Bench) -> None:
    device = await devices.add("n1", "fence_fake", options={"plug": "4"}, secrets={"password": "grapes"})
    answer = await bench.programs.ask(replace(device, name="other"), "status")
    assert "sealed for another place" in answer.said and bench.calls == []


async def test_what_is_secret_by_its_name_is_sealed_though_it_was_not_said(devices: FenceDevices) -> None:
    device = await devices.add("n1", "fence_fake", options={"plug": "4", "password": "grapes"})
    assert "password" not in device.options and is_sealed(device.secrets["password"])


@pytest.mark.parametrize(
    ("options", "name", "why"),
    [
        ({}, "plug", "is missing: Which outlet"),
        ({"plug": "4", "colour": "red"}, "colour", "is not an option of fence_fake"),
        ({"plug": "4", "ssl": "maybe"}, "ssl", "'maybe' is not 0 or 1"),
        ({"plug": "4", "ipport": "x"}, "ipport", "'x' is not a whole number"),
        ({"plug": "4", "login_timeout": "soon"}, "login_timeout", "not a number of seconds"),
        ({"plug": "4", "auth": "sha9"}, "auth", "'sha9' is none of md5, none"),
        ({"plug": "4", "action": "reboot"}, "action", "is not to be set"),
        ({"plug": "4", "password_script": "/bin/sh"}, "password_script", "would run another program as root"),
        ({"plug": "4\naction=on"}, "plug", "holds a line break"),
        ({"plug": "4", "password": "a\nb"}, "password", "holds a line break"),
    ],
)
async def test_options_that_the_agent_does_not_take_are_named(
    devices: FenceDevices, options: dict[str, str], name: str, why: str
) -> None:
    with pytest.raises(BadParameter) as refusal:
        await devices.add("n1", "fence_fake", options=options)
    assert list(refusal.value.parameters) == [name] and why in refusal.value.parameters[name]
    assert refusal.value.todo == "See: racimo ha fence describe fence_fake"
    assert await devices.lines() == []


async def test_an_older_name_of_an_option_counts_as_the_option(devices: FenceDevices) -> None:
    assert (await devices.add("n1", "fence_fake", options={"port": "4"})).options == {"port": "4"}


async def test_bad_devices_are_refused_with_the_reason(devices: FenceDevices) -> None:
    with pytest.raises(NotFound, match="apt-get install fence-agents"):
        await devices.add("n1", "fence_ipmilan")
    with pytest.raises(BadParameter, match="not the name of a fence agent"):
        await devices.add("n1", "../bin/sh")
    with pytest.raises(NotFound, match="Node 'n9' does not exist"):
        await devices.add("n9", "fence_fake", options={"plug": "1"})
    with pytest.raises(Refused, match="witness"):
        await devices.add("w", "fence_fake", options={"plug": "1"})
    with pytest.raises(BadParameter, match="level: 0"):
        await devices.add("n1", "fence_fake", options={"plug": "1"}, level=0)
    await devices.add("n1", "fence_fake", options={"plug": "1"})
    with pytest.raises(AlreadyExists):
        await devices.add("n1", "fence_fake", options={"plug": "1"})


async def test_a_change_keeps_what_is_not_given_and_forgets_the_last_check(devices: FenceDevices) -> None:
    old = await devices.add("n1", "fence_fake", options={"plug": "4"}, secrets={"password": "grapes"}, timeout=9)
    await devices._layout.fence_checks.create("n1-fake", FenceCheck(device="n1-fake", ok=False, why="login denied"))
    new = await devices.change("n1-fake", DeviceChange(options={"ssl": "1"}, level=2))
    assert (new.options, new.secrets, new.level, new.timeout) == (
        {"plug": "4", "ssl": "1"},
        old.secrets,
        2,
        9,
    )
    new = await devices.change("n1-fake", DeviceChange(delete=["password", "ssl"]))
    assert (new.options, new.secrets) == ({"plug": "4"}, {})
    assert (await devices.lines())[0].check is None
    with pytest.raises(BadParameter, match="is missing"):
        await devices.change("n1-fake", DeviceChange(delete=["plug"]))
    with pytest.raises(NotFound, match="racimo ha fence list"):
        await devices.change("other", DeviceChange(level=1))


async def test_asking_says_for_each_device_whether_the_power_is_on(devices: FenceDevices, bench: Bench) -> None:
    bench.device(name="4")
    bench.fault(bench.device(name="5"), "error")
    await devices.add("n1", "fence_fake", name="a", options={"plug": "4"})
    await devices.add("n1", "fence_fake", name="b", options={"plug": "5"}, secrets={"password": "grapes"})
    first, second = await devices.status("n1")
    assert (first.device, first.power, first.said) == ("a", "on", "Status: ON")
    assert (second.device, second.power, second.said) == ("b", "", "Failed: login denied for ***")
    with pytest.raises(NotFound, match="n2 has no fence device"):
        await devices.status("n2")


async def try_out(devices: FenceDevices, node: str = "n1") -> list[str]:
    told = Told()
    operation = TryFence(node=node)
    await operation.precheck(devices)
    async with AsyncExitStack() as undo:
        await operation.execute(devices, told, undo)
    return told.lines


async def test_trying_out_cuts_by_each_level_and_gives_the_power_back(devices: FenceDevices, bench: Bench) -> None:
    for plug, level in (("4", 1), ("5", 2)):
        bench.device(name=plug)
        await devices.add("n1", "fence_fake", name=f"d{plug}", options={"plug": plug}, level=level)
    await try_out(devices)
    assert [call.split()[:2] for call in bench.calls] == [
        ["status", "4"], ["off", "4"], ["status", "4"], ["on", "4"],
        ["status", "5"], ["off", "5"], ["status", "5"], ["on", "5"],
    ]  # fmt: skip


async def test_a_trial_of_a_device_that_lies_says_so_and_leaves_the_power_on(
    devices: FenceDevices, bench: Bench
) -> None:
    bench.fault(device := bench.device(name="4"), "lie")
    await devices.add("n1", "fence_fake", options={"plug": "4"}, timeout=1)
    with pytest.raises(OperationFailed, match="n1-fake reported that it was cut, but still says that it is on"):
        await try_out(devices)
    assert bench.power(device) == "on"


async def test_a_device_that_says_off_before_it_cut_anything_is_not_tried(devices: FenceDevices, bench: Bench) -> None:
    device = bench.device(name="4")
    (bench.directory / "4.power").write_text("off\n")
    await devices.add("n1", "fence_fake", options={"plug": "4"})
    with pytest.raises(OperationFailed, match="does not say that it is on before it is cut"):
        await try_out(devices)
    assert bench.power(device) == "off" and len(bench.calls) == 1


async def test_no_power_is_cut_for_a_trial_where_guests_run_or_on_the_node_itself(devices: FenceDevices) -> None:
    await devices.add("n1", "fence_fake", options={"plug": "4"})
    runtime = Runtime(vmid=100, node="n1", epoch=1, state=RunState.RUNNING)
    await devices._layout.runtimes.create(100, runtime)
    with pytest.raises(Conflict, match="guests run on it: 100"):
        await try_out(devices)
    with pytest.raises(Refused, match="cannot try out its own"):
        await try_out(devices, "n2")


# -- what can be proven


def device(name: str, node: str = "n1", **fields: object) -> FenceDevice:
    return FenceDevice(name=name, node=node, agent="fence_fake", **fields)  # type: ignore[arg-type]


def table(*devices: FenceDevice) -> dict[str, FenceDevice]:
    return {each.name: each for each in devices}


BAD = {"a": FenceCheck(device="a", ok=False, why="login denied")}


@pytest.mark.parametrize(("profile", "power", "lease"), [("default", 6, 12), ("fast", 4.5, 6.5), ("patient", 9, 34)])
def test_the_failover_time_follows_from_the_quickest_proof(profile: str, power: float, lease: float) -> None:
    with_device = proofs_of("n1", table(device("a")), {}, PROFILES[profile])
    assert [(proof.kind, proof.seconds) for proof in with_device.proofs] == [("power", power), ("lease", lease)]
    without = proofs_of("n2", table(device("a")), {}, PROFILES[profile])
    assert (without.seconds, without.missing) == (lease, "n2 has no fence device")


def test_a_device_that_failed_its_check_takes_its_whole_level_with_it() -> None:
    both = table(device("a"), device("b"))
    assert fenceable(both, BAD) == frozenset()
    assert proofs_of("n1", both, BAD, PROFILES["default"]).missing == "a: login denied"
    assert fenceable(table(device("a"), device("b", level=2)), BAD) == {"n1"}


def test_a_device_that_is_switched_off_is_no_part_of_its_level() -> None:
    assert fenceable(table(device("a", enabled=False), device("b")), {}) == {"n1"}
    only = table(device("a", enabled=False))
    assert proofs_of("n1", only, {}, PROFILES["default"]).missing == "the fence devices of n1 are switched off"
