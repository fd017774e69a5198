"""The life of guests on real nodes, by the command line and the API: from creation until nothing is left."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from lab_talk import RACIMO, call, guest_row, refused, settled, traces, until, verdict, well, written

from racimo.errors import Conflict, OperationFailed
from racimo.lab.demo import IMAGE
from racimo.lab.process import output
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

    MakeGuest = Callable[..., Awaitable[int]]

pytestmark = [pytest.mark.lab, pytest.mark.root]

IMPORT = f"import-from=/srv/shared/{IMAGE}"


async def state_of(lab: Lab, vmid: int) -> str:
    """As another node than its own tells it."""
    return str((await guest_row(lab.node("n3"), vmid))["status"])


async def test_a_guest_lives_and_leaves_nothing_behind(lab: Lab, vmid: int) -> None:
    """All by the command line of another node than the guest's, as an administrator would."""
    n2, number = lab.node("n2"), str(vmid)
    address = f"10.77.0.{vmid}"
    await well(
        n2, "guest", "create", number, "--node", "n1", "--name", "web", "--memory", "128", "--cores", "1",
        "--virtio0", f"shared:0,{IMPORT},format=raw", "--set", "virtio1=shared:1,format=raw,serial=journal",
        "--ide2", "shared:cloudinit", "--set", "boot=order=virtio0", "--net0", "virtio,bridge=vmbr0",
        "--ipconfig0", f"ip={address}/24,gw=10.77.0.1", "--serial0", "socket", "--agent", "1",
    )  # fmt: skip
    assert await state_of(lab, vmid) == "stopped"
    await well(n2, "guest", "start", number)
    assert (await written(lab, vmid)).name == "n1"
    assert len(guest_processes(lab, vmid)) == 1

    async def page() -> str:
        return (await lab.node("n3").execute("curl", "-s", "-m", "2", f"http://{address}/")).out

    assert "state running" in await until("the guest's web page at its cloud-init address", page)
    await until("the guest's agent", lambda: answers(lab, vmid))

    await well(n2, "guest", "suspend", number)
    assert await state_of(lab, vmid) == "paused"
    await well(n2, "guest", "resume", number)
    await written(lab, vmid)
    boot = (await verdict(lab, vmid)).writers[-1].writer.boot
    await well(n2, "guest", "reset", number)
    await until("a new boot after the reset", lambda: rebooted(lab, vmid, boot))
    await well(n2, "guest", "reboot", number)
    await well(n2, "guest", "shutdown", number)  # while it still boots, and sees no power button
    assert await state_of(lab, vmid) == "stopped"
    assert guest_processes(lab, vmid) == []
    assert "shut" in (await well(n2, "guest", "status", number))["reason"].lower()
    await well(n2, "guest", "start", number)
    await written(lab, vmid, 1)
    await refused(n2, 4, "guest", "destroy", number, saying=("is running",))
    await well(n2, "guest", "stop", number)
    report = await verdict(lab, vmid)
    assert len({span.writer.boot for span in report.writers}) == 4
    await well(n2, "guest", "destroy", number)
    assert await guest_row(n2, vmid) == {}
    assert await traces(lab, vmid) == []


async def answers(lab: Lab, vmid: int) -> bool:
    """Whether the guest's agent answers a ping."""
    node = lab.node("n1")
    try:
        await call(node, "post", f"/nodes/n1/qemu/{vmid}/agent/ping")
    except (Conflict, OperationFailed):
        return False
    return True


async def rebooted(lab: Lab, vmid: int, before: str) -> bool:
    return (await verdict(lab, vmid)).writers[-1].writer.boot != before


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
@pytest.mark.parametrize("storage", ["local", "shared"])
async def test_a_guest_runs_from_every_kind_of_disk(
    lab: Lab, make_guest: MakeGuest, storage: str, image_format: str
) -> None:
    vmid = await make_guest(
        virtio0=f"{storage}:0,{IMPORT},format={image_format}",
        virtio1=f"{storage}:1,format={image_format},serial=journal",
    )
    n1 = lab.node("n1")
    made = await call(n1, "get", f"/nodes/n1/storage/{storage}/content")
    assert [volume["format"] for volume in made if volume.get("vmid") == vmid] == [image_format] * 2
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await written(lab, vmid)
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/stop")
    await verdict(lab, vmid)
    await call(n1, "delete", f"/nodes/n1/qemu/{vmid}")
    assert await traces(lab, vmid) == []


async def test_what_is_typed_at_the_console_reaches_the_guest_and_its_answer_comes_back(
    lab: Lab, make_guest: MakeGuest
) -> None:
    """At a terminal, as a person does; twice, since QEMU serves one at a time."""
    vmid, n1 = await make_guest(), lab.node("n1")
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await until("the guest's agent, so all of it is up", lambda: answers(lab, vmid))
    for _ in range(2):
        said, code = await at_the_console(n1, vmid, b"boot\r")
        assert f"boot is {(await verdict(lab, vmid)).writers[-1].writer.boot}" in said
        assert code == 0
    assert await state_of(lab, vmid) == "running"
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/stop")
    await call(n1, "delete", f"/nodes/n1/qemu/{vmid}")


async def at_the_console(node: LabNode, vmid: int, keys: bytes) -> tuple[str, int | None]:
    """Open the guest's console at a terminal, type, leave with Ctrl-] after an answer: what was seen, and the code."""
    ours, theirs = os.openpty()
    command = node.inside((RACIMO, "guest", "console", str(vmid)))
    process = await asyncio.create_subprocess_exec(*command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = asyncio.StreamReader()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(seen), terminal)
        try:
            async with asyncio.timeout(30):
                said = await seen.readuntil(b"Ctrl-] leaves.")
                terminal.write(keys)
                said += await seen.readuntil(b"boot is ") + await seen.readuntil(b"\n")
                terminal.write(b"\x1d")
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            transport.close()
    return said.decode(errors="replace"), process.returncode


async def test_a_configuration_is_changed_only_by_who_saw_the_last_change(lab: Lab, make_guest: MakeGuest) -> None:
    vmid, n1 = await make_guest(), lab.node("n1")
    path = f"/nodes/n1/qemu/{vmid}/config"
    seen = (await call(n1, "get", path))["digest"]
    await call(n1, "put", path, memory="160", digest=seen)
    with pytest.raises(Conflict, match="changed"):
        await call(n1, "put", path, memory="192", digest=seen)
    assert (await call(n1, "get", path))["memory"] == 160
    await well(lab.node("n2"), "guest", "set", str(vmid), "cores=2", "tags=blue")
    await well(lab.node("n2"), "guest", "set", str(vmid), "--delete", "tags")
    config = await call(n1, "get", path)
    assert config["cores"] == 2
    assert "tags" not in config
    await call(n1, "delete", f"/nodes/n1/qemu/{vmid}")


async def test_a_guest_outlives_the_daemon_that_started_it(lab: Lab, make_guest: MakeGuest) -> None:
    vmid, n1 = await make_guest(), lab.node("n1")
    await call(n1, "post", f"/nodes/n1/qemu/{vmid}/status/start")
    await written(lab, vmid, 2)
    process = guest_processes(lab, vmid)
    await n1.succeed("systemctl", "kill", "-s", "KILL", "racimo-node")
    await written(lab, vmid, 10)
    await until("the daemon again", lambda: serves(lab))
    assert await settled(lab, lab.node("n2"), vmid) == "n1"
    assert guest_processes(lab, vmid) == process
    await well(n1, "guest", "stop", str(vmid))
    await well(n1, "guest", "destroy", str(vmid))
    assert await traces(lab, vmid) == []


async def serves(lab: Lab) -> bool:
    return (await lab.node("n1").execute(RACIMO, "guest", "list")).code == 0


async def test_an_orderly_power_off_of_a_node_shuts_nothing_up_elsewhere(lab: Lab, make_guest: MakeGuest) -> None:
    """The guest of a node that was switched off is listed as stopped when the node is back, and starts again."""
    n2 = lab.node("n2")
    vmid = await make_guest()
    await well(lab.node("n1"), "guest", "migrate", str(vmid), "n2")
    await well(n2, "guest", "start", str(vmid))
    await written(lab, vmid, 2)
    await n2.power_cut()
    await n2.boot()

    async def stopped() -> bool:
        row = await guest_row(lab.node("n1"), vmid)
        return bool(row.get("status") == "stopped" and row.get("node") == "n2")

    await until("the guest listed as stopped on n2", stopped)
    assert guest_processes(lab, vmid) == []
    await well(lab.node("n1"), "guest", "start", str(vmid))
    await written(lab, vmid, 2)
    await well(n2, "guest", "stop", str(vmid))
    await verdict(lab, vmid)
    await well(n2, "guest", "destroy", str(vmid))
    assert await traces(lab, vmid) == []


async def test_the_host_sees_no_address_of_a_guest(lab: Lab) -> None:
    assert "10.77." not in (await output("ip", "address")).out
