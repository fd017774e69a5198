from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest

from racimo.errors import Cancelled, Conflict, NotFound, Unreachable
from racimo.task.failure import Failure

from .certificates import Authority
from .nodes import Work

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.api.client import TaskView

    from .nodes import Datacenter, Node


async def test_a_call_for_another_node_is_answered_by_it(n1: Node, n2: Node) -> None:
    async with n1.local() as client:
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = await client.request(method, "/nodes/n2/echo/100", {"name": "ñ ü/&=", "nodes": ["a", "b"]})
            assert isinstance(answer, dict)
            assert (answer["by"], answer["user"], answer["name"]) == ("n2", "root@pam", "ñ ü/&=")
            assert answer["nodes"] == ["a", "b"]
        assert await client.get("/nodes/n2/volumes/local%3A100%2Fd.raw") == "local:100/d.raw"


async def test_an_error_of_another_node_comes_back_as_it_was(n1: Node, n2: Node) -> None:
    async with n1.local() as client:
        with pytest.raises(Conflict) as raised:
            await client.post("/nodes/n2/fail", text="VM 100 already running")
    assert Failure.of(raised.value) == Failure("Conflict", "VM 100 already running", "it is so", "Do it")


async def test_a_node_that_is_down_is_595(n1: Node, n2: Node) -> None:
    await n2.stop()
    async with n1.local() as client:
        with pytest.raises(Unreachable, match="Node 'n2' did not answer: Connection refused") as raised:
            await client.get("/nodes/n2/echo/100")
    assert not raised.value.may_have_acted


async def test_a_node_that_does_not_accept_is_given_up_within_the_connect_time_out(
    datacenter: Datacenter, n1: Node
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never shakes hands
        datacenter.directory["n2"] = ("127.0.0.1", silent.getsockname()[1])
        begun = time.monotonic()
        async with n1.local() as client:
            with pytest.raises(Unreachable, match="no connection within 2 s"):
                await client.get("/nodes/n2/echo/100")
    assert time.monotonic() - begun < 4


async def test_a_node_that_dies_over_a_change_may_have_acted(datacenter: Datacenter, n1: Node, n2: Node) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    dying = await asyncio.start_server(die, "127.0.0.1", 0, ssl=n2.tls.server_context())
    datacenter.directory["n2"] = ("127.0.0.1", dying.sockets[0].getsockname()[1])
    async with dying, n1.local() as client:
        with pytest.raises(Unreachable, match="the connection broke") as raised:
            await client.post("/nodes/n2/gated")
    assert raised.value.may_have_acted


async def test_a_node_under_another_name_is_not_talked_to(datacenter: Datacenter, n1: Node, n2: Node) -> None:
    datacenter.directory["n3"] = datacenter.directory["n2"]
    async with n1.local() as client:
        with pytest.raises(Unreachable, match="certificate is not accepted"):
            await client.get("/nodes/n3/echo/100")


async def test_a_node_of_another_authority_is_not_talked_to(
    datacenter: Datacenter, n1: Node, n2: Node, tmp_path: Path
) -> None:
    await n2.server.serve_tls(Authority(tmp_path / "other").issue("n2"), "127.0.0.1", 0)
    async with n1.local() as client:
        with pytest.raises(Unreachable, match="certificate is not accepted"):
            await client.get("/nodes/n2/echo/100")


async def test_a_request_is_forwarded_once(datacenter: Datacenter, n1: Node, n2: Node) -> None:
    n2.services.node_name = n2.peers.node_name = "n2-renamed"
    async with n1.local() as client:
        with pytest.raises(Conflict, match="'n1' forwarded a request for 'n2' to 'n2-renamed'"):
            await client.get("/nodes/n2/echo/100")


async def test_renewed_certificates_are_used_for_the_next_call(datacenter: Datacenter, n1: Node, n2: Node) -> None:
    await n1.peers.call("n2", "GET", "/version")
    new = Authority(datacenter.root / "new")
    await n2.server.serve_tls(new.issue("n2"), "127.0.0.1", 0)
    n1.peers.renew(new.issue("n1"))
    assert await n1.peers.call("n2", "POST", "/nodes-only") == "n1"


async def test_a_broken_off_read_is_broken_off_on_the_other_node_too(n1: Node, n2: Node) -> None:
    async with n1.local() as client:
        with pytest.raises(Unreachable):
            await client.request("GET", "/nodes/n2/gated", {}, timeout=0.2)
    await asyncio.wait_for(n2.bench.finished.wait(), 5)
    assert n2.bench.done == ["cancelled"]


async def test_a_task_goes_on_though_who_began_it_is_gone(n1: Node, n2: Node) -> None:
    async with n1.local() as client:
        upid = await client.post("/nodes/n2/work")
    async with n1.local() as client:
        assert isinstance(upid, str)
        assert (await client.task(upid)).status == "running"
        n2.bench.go_on.set()
        assert (await client.wait_task(upid)).exitstatus == "OK"
    assert n2.bench.done == ["worked"]


async def test_waiting_for_a_task_tells_its_progress(n1: Node, n2: Node) -> None:
    seen: list[TaskView] = []

    def watch(view: TaskView) -> None:
        seen.append(view)
        if view.doing == "half way":
            n2.bench.go_on.set()

    async with n1.local() as client:
        ended = await client.wait_task(await client.post("/nodes/n2/work"), watch, timeout=20)
    assert (ended.status, ended.exitstatus, ended.progress) == ("stopped", "OK", 1.0)
    assert 0.5 in [view.progress for view in seen]


async def test_a_task_is_cancelled_from_another_node_and_says_by_whom(n1: Node, n2: Node) -> None:
    async with n1.local() as client:
        upid = await client.post("/nodes/n2/work")
        await asyncio.wait_for(n2.bench.entered.wait(), 5)
        await client.delete(f"/nodes/n2/tasks/{upid}")
        with pytest.raises(Cancelled, match="Cancelled: by root@pam"):
            await client.wait_task(upid, timeout=20)
        log = await client.get(f"/nodes/n2/tasks/{upid}/log", limit=0)
    assert log == [{"n": 1, "t": "working"}, {"n": 2, "t": "TASK ERROR: Cancelled: by root@pam"}]
    assert n2.bench.done == ["undone"]


async def test_tasks_of_all_nodes_are_listed_without_those_that_are_down(n1: Node, n2: Node) -> None:
    for node in (n1, n2):
        node.bench.go_on.set()
        await node.tasks.run(Work(), node.bench)
    async with n1.local() as client:
        listed = await client.get("/cluster/tasks")
        assert isinstance(listed, list)
        assert {entry["node"] for entry in listed if isinstance(entry, dict)} == {"n1", "n2"}
        await n2.stop()
        listed = await client.get("/cluster/tasks")
        assert isinstance(listed, list)
        assert {entry["node"] for entry in listed if isinstance(entry, dict)} == {"n1"}


async def test_task_lists_are_filtered_as_asked(n1: Node) -> None:
    n1.bench.go_on.set()
    for vmid in (100, 101, 100):
        await n1.tasks.run(Work(vmid), n1.bench)
    async with n1.local() as client:
        listed = await client.get("/nodes/n1/tasks", vmid=100, statusfilter="ok,error", limit=1, typefilter="qmwork")
        assert isinstance(listed, list)
        assert [entry["status"] for entry in listed if isinstance(entry, dict)] == ["OK"]
        assert await client.get("/nodes/n1/tasks", errors=True) == []
        assert await client.get("/nodes/n1/tasks", source="active") == []
        with pytest.raises(NotFound, match="no such task"):
            await client.get("/nodes/n1/tasks/UPID:n1:00000000:00000000:00000000:qmstart:100:root@pam:/status")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_restart_of_a_daemon_between_two_calls_goes_unnoticed(
    datacenter: Datacenter, n1: Node, n2: Node, method: str
) -> None:
    async with n1.local() as client:
        await client.request(method, "/nodes/n2/echo/100", {})
        port = n2.server.port
        await n2.server.close()
        await n2.server.serve_tls(n2.tls, "127.0.0.1", port)
        answer = await client.request(method, "/nodes/n2/echo/100", {})
    assert isinstance(answer, dict)
    assert answer["by"] == "n2"


async def test_a_hundred_calls_at_once_are_all_answered(n1: Node, n2: Node) -> None:
    async with n1.local() as client:
        calls = (client.get("/nodes/n2/echo/100", name=str(n)) for n in range(100))
        answers = await asyncio.gather(*calls)
    assert [answer["name"] for answer in answers if isinstance(answer, dict)] == [str(n) for n in range(100)]
