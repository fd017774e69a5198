"""Nodes leave, the last one with everything; dead ones are removed without a ghost, and a spare takes their vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab_talk import RACIMO, call, guest_row, racimo, refused, standing_lab, until, verdict, well, written
from records import check_certificates, identity, members, mentions, records

from racimo.lab.demo import create_guest
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Four nodes: three vote, one is spare. The tests tell one story, in order."""
    with standing_lab("rl", nodes=4) as lab:
        yield lab


async def voters(node: LabNode) -> list[str]:
    """Addresses of the voters, by etcd's own word."""
    return [url.removeprefix("https://").partition(":")[0] for url in (await members(node))["voters"]]


async def vote(node: LabNode, *expected: LabNode) -> None:
    async def exactly() -> bool:
        return await voters(node) == sorted(each.address() for each in expected)

    await until(f"votes of {', '.join(each.name for each in expected)}", exactly, 60)


async def test_a_dead_node_is_removed_without_a_ghost_and_a_spare_takes_its_vote(lab: Lab) -> None:
    n1, n2, n3, n4 = lab.nodes
    await vote(n1, n1, n2, n3)
    await create_guest(n2, 100, lab)
    await call(n1, "post", "/nodes/n2/qemu/100/status/start")
    await written(lab, 100)
    await refused(n1, 4, "cluster", "remove", "n2", saying=("n2", "is alive", "leave"))
    await refused(n1, 3, "cluster", "remove", "n9", saying=("n9",))
    await refused(n1, 4, "cluster", "remove", "n1", saying=("cannot remove itself", "leave"))
    await n2.power_cut()

    async def silent() -> bool:
        said = await racimo(n1, "cluster", "remove", "n2")
        return said.code != 4 or "is alive" not in said.told

    await until("no sign of life of n2", silent, 60)
    await refused(n1, 4, "cluster", "remove", "n2", saying=("still has guests", "100 ('guest100')", "--guests-to"))
    to_n1 = ("cluster", "remove", "n2", "--guests-to", "n1")
    await refused(n1, 4, *to_n1, saying=("100", "ran when it was last heard of", "--powered-off"))
    assert len(await call(n1, "get", "/nodes")) == 4
    await well(n1, *to_n1, "--powered-off")
    assert await mentions(n1, "n2") == []
    assert [row["name"] for row in await call(n3, "get", "/cluster/status") if row["type"] == "node"] == [
        "n1", "n3", "n4",
    ]  # fmt: skip
    await vote(n1, n1, n3, n4)
    assert await voters(n1) == sorted(node.address() for node in (n1, n3, n4))
    assert (await guest_row(n4, 100))["node"] == "n1"
    await well(n4, "guest", "start", "100")
    await written(lab, 100)
    await verdict(lab, 100)
    assert [process.node for process in guest_processes(lab, 100)] == ["n1"]


async def test_a_removed_node_that_comes_back_is_refused_until_it_joins_anew(lab: Lab) -> None:
    n1, n2, *_ = lab.nodes
    assert n2.leader is None
    await n2.boot()

    async def serves() -> bool:
        return (await n2.execute(RACIMO, "api", "get", "/version")).code == 0

    await until("the daemon of n2", serves)
    said = await racimo(n2, "guest", "create", "200", "--memory", "32", timeout_s=60)
    assert said.code != 0, said

    async def knows() -> str:
        rows = await call(n2, "get", "/cluster/status")
        return next((str(row.get("removed", "")) for row in rows if row["type"] == "cluster"), "")

    await until("n2 says that it was removed", knows)
    assert "removed from the datacenter" in await knows() and "cluster leave --force" in await knows()
    assert await mentions(n1, "n2") == [], "a removed machine writes no heartbeat and no record of its daemon"
    before = identity(n2)["id"]
    await well(n2, "cluster", "leave", "--force")
    assert not identity(n2)["clustered"]
    assert await mentions(n1, "n2") == []
    text = (await well(n1, "cluster", "join-info"))["text"]
    await well(n2, "cluster", "join", text, "--link", n2.address())
    assert identity(n2)["id"] != before
    datacenter = next(each.value["id"] for each in await records(n1) if each.key.endswith("/datacenter/settings"))
    check_certificates(n2, datacenter)
    assert [process.node for process in guest_processes(lab, 100)] == ["n1"]


async def test_a_node_leaves_when_its_guests_were_moved(lab: Lab) -> None:
    n1, n2, n3, n4 = lab.nodes
    await well(n1, "guest", "migrate", "100", "n3")
    await refused(n3, 4, "cluster", "leave", saying=("still has guests", "100 ('guest100')", "Migrate"))
    await vote(n1, n1, n3, n4)
    await well(n3, "guest", "migrate", "100", "n1")
    await well(n3, "cluster", "leave", timeout_s=200)
    assert await mentions(n1, "n3") == []
    assert not identity(n3)["clustered"]
    await vote(n1, n1, n2, n4)
    status = await call(n3, "get", "/cluster/status")
    assert [row["name"] for row in status if row["type"] == "node"] == ["n3"]
    await well(n3, "guest", "create", "100", "--memory", "32", "--scsi0", "local:1")
    await well(n3, "guest", "start", "100")
    assert sorted(process.node for process in guest_processes(lab, 100)) == ["n1", "n3"]
    await well(n3, "guest", "stop", "100")
    await written(lab, 100)


async def test_the_last_node_takes_its_guests_along(lab: Lab) -> None:
    n1, n2, _, n4 = lab.nodes
    await well(n4, "cluster", "leave", timeout_s=200)
    await vote(n1, n1)
    await well(n2, "cluster", "leave", timeout_s=200)
    running = guest_processes(lab, 100)
    assert [process.node for process in running] == ["n1"]
    await well(n1, "cluster", "leave")
    assert guest_processes(lab, 100) == running
    assert not identity(n1)["clustered"]
    assert (n1.files / "var/lib/racimo/store.sqlite").exists()
    assert (await n1.execute("systemctl", "is-active", "racimo-etcd")).out.strip() != "active"
    await written(lab, 100)
    row = await guest_row(n1, 100)
    assert (row["node"], row["status"]) == ("n1", "running")
    await refused(n1, 4, "cluster", "leave", saying=("stands alone",))
    await well(n1, "guest", "stop", "100")
    await well(n1, "guest", "start", "100")
    await written(lab, 100)
    await well(n1, "guest", "stop", "100")
    await verdict(lab, 100)
