"""Two of three voters are gone: what still works, what says why not and how soon; then one survivor goes on alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from lab_talk import call, guest_row, racimo, refused, settled, standing_lab, until, verdict, well, written
from listener import heard, listen
from records import identity, members, mentions

from racimo.lab.demo import create_guest
from racimo.lab.together import together
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

BOUND_S, READ_S = 45.0, 20.0
"""Within this a change that cannot be written says so, and a list is there, several at once on a busy machine."""
LOST, BACK = "n1 does not reach a quorum", "There is a quorum again"


async def told(node: LabNode, count: int) -> bool:
    """Whether the webhook has heard this much."""
    return len(heard(node)) >= count


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes."""
    with standing_lab("rq") as lab:
        yield lab


async def test_without_quorum_guests_go_on_reads_work_and_changes_say_why_not(lab: Lab) -> None:
    n1, n2, n3 = lab.nodes

    async def three() -> bool:
        return len((await members(n1))["voters"]) == 3

    await until("three voters", three, 60)
    for vmid, node in ((100, n1), (101, n3)):
        await create_guest(node, vmid, lab)
        await call(n1, "post", f"/nodes/{node.name}/qemu/{vmid}/status/start")
        await written(lab, vmid, 2)
    await call(n1, "post", "/nodes/n3/qemu/101/status/stop")
    await listen(n1, n1, "quorum")
    await together(n2.power_cut(), n3.power_cut())

    async def lost() -> bool:
        status = await call(n1, "get", "/cluster/status")
        return any(row.get("quorate") == 0 for row in status)

    await until("the loss of the quorum told", lost, 60)
    await written(lab, 100)
    reads = (("guest", "list"), ("guest", "config", "100"), ("node", "list"), ("cluster", "status"), ("status",))
    changes = (
        ("guest", "create", "200", "--memory", "32", "--scsi0", "local:1"),
        ("guest", "set", "100", "memory=256"),
        ("guest", "stop", "100"),
        ("storage", "add", "more", "--path", "/srv/more"),
        ("cluster", "join-info"),
        ("cluster", "remove", "n2"),
    )

    async def read(*words: str) -> None:
        began = time.monotonic()
        await well(n1, *words)
        assert time.monotonic() - began < READ_S, words

    async def change(*words: str) -> None:
        began = time.monotonic()
        said = await refused(n1, 5, *words)
        assert time.monotonic() - began < BOUND_S, words
        assert "quorum" in said.told or "store" in said.told, (words, said.told)

    await together(*(read(*words) for words in reads))
    await together(*(change(*words) for words in changes))
    await until("the loss told by a webhook", lambda: told(n1, 1))
    assert not list((n1.files / "var/lib/racimo/images").glob("**/vm-200-*"))
    assert [process.node for process in guest_processes(lab, 100)] == ["n1"]
    await written(lab, 100)


async def test_one_survivor_goes_on_alone_and_the_lost_are_removed(lab: Lab) -> None:
    n1, n2, _ = lab.nodes
    await refused(n1, 2, "cluster", "recover", saying=("--yes",))
    running = guest_processes(lab, 100)
    await well(n1, "cluster", "recover", "--yes")

    async def quorate() -> bool:
        return any(row.get("quorate") == 1 for row in await call(n1, "get", "/cluster/status"))

    await until("a quorum of one", quorate)
    await until("its end told by the webhook", lambda: told(n1, 2))
    lost, back = heard(n1)
    assert [(each["title"], each["over"], each["type"]) for each in (lost, back)] == [
        (LOST, False, "quorum"), (BACK, True, "quorum")
    ]  # fmt: skip
    assert "No answer from n2, n3" in lost["message"] and back["about"] == lost["id"]
    assert (await members(n1))["voters"] == [f"https://{n1.address()}:2380"]
    assert guest_processes(lab, 100) == running
    assert await settled(lab, n1, 100) == "n1"
    await written(lab, 100)
    await refused(n1, 4, "cluster", "recover", "--yes", saying=("has a quorum",))
    await until("n3 removed", lambda: removed(lab, "n3", "--guests-to", "n1", "--powered-off"), 60)
    await until("n2 removed", lambda: removed(lab, "n2"), 60)
    assert await mentions(n1, "n2") == []
    assert await mentions(n1, "n3") == []
    assert (await guest_row(n1, 101))["node"] == "n1"
    await well(n1, "guest", "start", "101")
    await written(lab, 101)
    for vmid in (100, 101):
        await well(n1, "guest", "stop", str(vmid))
        await verdict(lab, vmid)
    assert identity(n1)["clustered"]
    assert n2.leader is None


async def removed(lab: Lab, name: str, *options: str) -> bool:
    """Remove a node, unless it showed signs of life a moment ago."""
    said = await racimo(lab.node("n1"), "cluster", "remove", name, *options)
    assert said.code == 0 or "is alive" in said.told, said
    return said.code == 0


async def test_a_backup_brings_the_records_back_when_the_store_is_lost_too(lab: Lab) -> None:
    n1 = lab.node("n1")
    path = str(await call(n1, "post", "/racimo/backup"))
    assert (n1.files / path.lstrip("/")).stat().st_mode & 0o777 == 0o600
    before = await call(n1, "get", "/nodes/n1/qemu/101/config")
    await well(n1, "guest", "set", "101", "memory=144")
    await n1.succeed("systemctl", "stop", "racimo-etcd")
    await n1.succeed("sh", "-c", "rm -r /var/lib/racimo/etcd")
    await refused(n1, 4, "cluster", "recover", "--yes", saying=("no data of the store", "--backup"))
    await well(n1, "cluster", "recover", "--yes", "--from", path)
    await until("the guest's configuration as it was backed up", lambda: same(lab, before))
    assert before["memory"] != 144 and await call(n1, "get", "/nodes/n1/qemu/101/config") == before
    await well(n1, "guest", "start", "101")
    await written(lab, 101)
    await well(n1, "guest", "stop", "101")


async def same(lab: Lab, before: dict[str, object]) -> bool:
    said = await racimo(lab.node("n1"), "api", "get", "/nodes/n1/qemu/101/config")
    return said.code == 0 and said.document == before
