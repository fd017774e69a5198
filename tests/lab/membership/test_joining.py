"""Nodes become a datacenter: init, create, join with guests, and every refusal on the way changes nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from lab_talk import RACIMO, call, guest_row, racimo, refused, standing_lab, until, verdict, well, written
from records import check_certificates, identity, members, mentions, records

from racimo.lab.datacenter import SHARED_PATH, SHARED_STORAGE
from racimo.lab.demo import create_guest
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

LISTEN = "import socket, time; s = socket.create_server(('{}', {})); time.sleep(60)"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three booted machines that are no nodes yet."""
    with standing_lab("rj", bare=True) as lab:
        asyncio.run(prepare(lab))
        yield lab


async def prepare(lab: Lab) -> None:
    """n1 is the datacenter 'bunch' with guest 100 on the shared storage; n2 and n3 stand alone."""
    n1, n2, n3 = lab.nodes
    for node in lab.nodes:
        await well(node, "init", "--name", node.name, "--address", node.address())
    await occupied(n1, 2379)
    await occupied(n1, 2380)
    await well(n1, "cluster", "create", "bunch", "--link", n1.address())
    for node in (n1, n2, n3):
        await call(node, "post", "/storage", **SHARED)
    await create_guest(n1, 100, lab, **EMPTY)


SHARED: dict[str, Any] = {
    "storage": SHARED_STORAGE, "type": "dir", "path": SHARED_PATH, "shared": 1, "content": "images,import",
}  # fmt: skip
EMPTY = {"virtio1": None, "net0": None, "ide2": None, "ipconfig0": None, "virtio0": "local:1,format=raw"}
"""A guest that need not boot: one empty disk."""


async def occupied(node: LabNode, port: int) -> None:
    """With another program on a port of the store, a create is refused, and nothing of it stays."""
    await node.succeed(
        "systemd-run", "--quiet", f"--unit=squatter-{port}", "python3", "-c", LISTEN.format(node.address(), port)
    )
    listens = ("sh", "-c", f"ss -ltnH 'sport = :{port}'")

    async def busy() -> str:
        return (await node.execute(*listens)).out

    await until(f"a program on port {port}", busy)
    before = identity(node)
    words = ("cluster", "create", "bunch", "--link", node.address())
    await refused(node, 4, *words, saying=(f"Port {port} of {node.address()} is in use", "ss -ltnp"))
    assert identity(node) == before
    assert not (node.files / "etc/racimo/create.begun").exists()
    assert not (node.files / "var/lib/racimo/etcd").exists()
    await node.succeed("systemctl", "stop", f"squatter-{port}")


async def text_of(node: LabNode, *options: str) -> str:
    return str((await well(node, "cluster", "join-info", *options))["text"])


async def stands_alone(node: LabNode, before: dict[str, Any]) -> None:
    """After a refusal: the node is as it was, and so is the datacenter."""
    assert identity(node) == before
    assert not (node.files / "etc/racimo/joining.json").exists()
    status = await call(node, "get", "/cluster/status")
    assert [row for row in status if row["type"] == "cluster"] == []


async def test_a_text_that_is_not_good_any_more_is_refused_with_the_reason(lab: Lab) -> None:
    n1, n2, _ = lab.nodes
    before, text = identity(n2), await text_of(n1)
    hasty = await text_of(n1, "--life", "1")
    join = ("cluster", "join")
    await refused(n2, 2, *join, text[:-9], saying=("cut off", "last character"))
    await refused(n2, 2, *join, text[:40] + "x" + text[41:], saying=("malformed", "join-info"))
    await refused(n2, 2, *join, "hello", saying=("not a join text", "join-info"))
    await asyncio.sleep(1.2)
    await refused(n2, 4, *join, hasty, saying=("has expired", "join-info"))
    witness = await racimo(n2, *join, text, "--link", "192.0.2.7")
    assert witness.code == 4
    assert "192.0.2.7" in witness.told
    await refused(n1, 4, *join, text, saying=("already a member", "leave"))
    await stands_alone(n2, before)
    assert len(await call(n1, "get", "/nodes")) == 1


async def test_a_text_for_another_datacenter_is_refused(lab: Lab) -> None:
    """n3 was one of its own; now it stands alone, and then another datacenter answers at its address."""
    _, n2, n3 = lab.nodes
    before = identity(n2)
    await well(n3, "cluster", "create", "other", "--link", n3.address())
    old = await text_of(n3)
    await well(n3, "cluster", "leave")
    await refused(n2, 4, "cluster", "join", old, saying=("not known to this cluster", "another one", "join-info"))
    await stands_alone(n2, before)
    await n3.succeed("systemctl", "stop", "racimo-ha", "racimo-node")
    await n3.succeed("sh", "-c", "rm -r /etc/racimo/* /var/lib/racimo/*")
    await n3.succeed("systemctl", "start", "racimo-node", "racimo-ha")
    await until("the daemon of n3 again", lambda: answers(n3))
    await well(n3, "init", "--name", "n3", "--address", n3.address())
    await well(n3, "cluster", "create", "third", "--link", n3.address())
    said = await racimo(n2, "cluster", "join", old)
    assert said.code in (4, 5), said
    assert "authority" in said.told and said.error["todo"], said
    await stands_alone(n2, before)
    assert not identity(n2)["clustered"] and identity(n3)["clustered"]
    await well(n3, "cluster", "leave")
    await call(n3, "post", "/storage", **SHARED)


async def answers(node: LabNode) -> bool:
    return (await node.execute(RACIMO, "api", "get", "/version")).code == 0


async def test_a_node_joins_with_its_guests_and_a_taken_number_is_refused_naming_both(lab: Lab) -> None:
    n1, n2, _ = lab.nodes
    await create_guest(n2, 100, lab, name="theirs", virtio1="local:1,format=raw,serial=journal")
    await create_guest(n2, 300, lab, name="runner")
    for vmid in (100, 300):
        await call(n2, "post", f"/nodes/n2/qemu/{vmid}/status/start")
    await written(lab, 300)
    await written(lab, 100)
    runner = guest_processes(lab, 300)
    before, text = identity(n2), await text_of(n1)
    await n2.succeed("sh", "-c", "sed -i 's/^PRETTY_NAME=.*/PRETTY_NAME=\"Old Debian\"/' /etc/os-release")

    words = ("cluster", "join", text, "--link", n2.address())
    said = await refused(n2, 4, *words, saying=("100", "'theirs' on n2", "'guest100' on n1", "--renumber"))
    await stands_alone(n2, before)
    said = await refused(n2, 4, *words, "--renumber", saying=("while they run", "100 ('theirs')"))
    await stands_alone(n2, before)
    await well(n2, "guest", "stop", "100")
    joined = await well(n2, *words, "--renumber")
    assert joined["exitstatus"].startswith("WARNINGS"), joined
    log = await call(n2, "get", f"/nodes/n2/tasks/{joined['upid']}/log", limit=500)
    assert "operating system" in str(log) and "Old Debian" in str(log)
    assert "Guest 100 is now guest 101" in str(log), said

    assert guest_processes(lab, 300) == runner
    await written(lab, 300)
    assert {row["vmid"]: row["node"] for row in await call(n1, "get", "/cluster/resources") if "vmid" in row} == {
        100: "n1", 101: "n2", 300: "n2",
    }  # fmt: skip
    config = await call(n1, "get", "/nodes/n2/qemu/101/config")
    assert "vm-101-disk-0" in config["virtio0"] and "vm-101-disk-0" in config["virtio1"], config
    assert list((n2.files / "var/lib/racimo/images").glob("**/vm-100-*")) == []
    await well(n1, "guest", "start", "101")
    await written(lab, 101)
    await well(n1, "guest", "migrate", "300", "n1")
    await written(lab, 300)
    for vmid in (101, 300):
        await well(n1, "guest", "stop", str(vmid))
    await verdict(lab, 300)
    assert (await guest_row(n2, 100))["node"] == "n1"


async def test_the_third_node_joins_and_all_three_vote(lab: Lab) -> None:
    n1, n2, n3 = lab.nodes
    before, text = identity(n3), await text_of(n1)
    await n3.succeed("systemd-run", "--quiet", "--unit=squatter", "python3", "-c", LISTEN.format(n3.address(), 2380))
    await refused(n3, 4, "cluster", "join", text, "--link", n3.address(), saying=("Port 2380", "in use"))
    await stands_alone(n3, before)
    await n3.succeed("systemctl", "stop", "squatter")
    await well(n3, "cluster", "join", "-", "--link", n3.address(), feed=text + "\n")
    said = await racimo(n2, "cluster", "leave")
    assert said.code == 4, said
    await refused(n1, 4, "cluster", "create", "bunch", saying=("belongs to a cluster already",))

    async def three() -> bool:
        return len((await members(n1))["voters"]) == 3

    await until("three voters", three, 60)
    assert (await members(n1))["voters"] == [f"https://{node.address()}:2380" for node in lab.nodes]
    datacenter = next(r.value["id"] for r in await records(n3) if r.key.endswith("/datacenter/settings"))
    for node in lab.nodes:
        check_certificates(node, datacenter)
    await well(n3, "cluster", "leave", timeout_s=200)
    await refused(n3, 4, "cluster", "join", text, "--link", n3.address(), saying=("used already", "join-info"))
    assert await mentions(n1, "n3") == []
