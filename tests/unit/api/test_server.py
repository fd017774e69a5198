from __future__ import annotations

import asyncio
import json
import socket
import ssl
import stat
from typing import TYPE_CHECKING

import aiohttp
import pytest

from racimo.api.body import MAX_BODY
from racimo.api.client import ApiClient
from racimo.errors import BadRequest, Conflict, NotFound, NotLoggedIn, OperationFailed, Unauthorised, Unreachable

from .certificates import Authority
from .nodes import Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .nodes import Datacenter


async def exchange(node: Node, request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Bytes to the node's socket and back: status line, header fields, body."""
    reader, writer = await asyncio.open_unix_connection(node.paths.node_socket)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            received = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = received.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    return line, dict(field.split(": ", 1) for field in fields if field), body


def http(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    fields = {"Host": "n1", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_root_of_the_node_is_known_on_the_socket_alone_it_may_open(n1: Node) -> None:
    assert stat.S_IMODE(n1.paths.node_socket.stat().st_mode) == 0o600
    async with n1.local() as client:
        answer = await client.get("/nodes/n1/echo/100", name="web", onboot=True, nodes=["a", "b"], net0="virtio")
    assert answer == {
        "by": "n1",
        "user": "root@pam",
        "node": "n1",
        "vmid": 100,
        "name": "web",
        "onboot": 1,
        "nodes": ["a", "b"],
        "full_clone": 0,
        "net0": "virtio",
    }


async def test_a_form_is_understood_as_well_as_json(n1: Node) -> None:
    line, _, body = await exchange(
        n1, http("PUT", "/api2/json/nodes/n1/echo/100?_dc=7", b"node=n1&nodes=a&nodes=b&onboot=yes", FORM)
    )
    assert line == "HTTP/1.1 200 OK"
    assert json.loads(body)["data"]["nodes"] == ["a", "b"]
    assert json.loads(body)["data"]["onboot"] == 1


async def test_a_message_cannot_inject_header_fields(n1: Node) -> None:
    line, fields, body = await exchange(
        n1, http("POST", "/api2/json/nodes/n1/fail", b"text=a%0d%0aSet-Cookie:%20evil=1%0d%0a%0d%0a<x>\xc3\xa9", FORM)
    )
    assert line == "HTTP/1.1 500 a Set-Cookie: evil=1 <x>e: it is so. Do it."
    assert "Set-Cookie" not in fields
    assert json.loads(body)["racimo"]["what"] == "a\r\nSet-Cookie: evil=1\r\n\r\n<x>é"


async def test_a_long_message_is_cut_in_the_status_line_only(n1: Node) -> None:
    line, _, body = await exchange(n1, http("POST", "/api2/json/nodes/n1/fail", b"text=" + b"x" * 5000, FORM))
    assert len(line) < 600
    assert len(json.loads(body)["message"]) > 5000


@pytest.mark.parametrize(
    ("method", "path", "line"),
    [
        ("GET", "/api2/json/nope", "HTTP/1.1 501 Method 'GET /nope' not implemented"),
        ("PATCH", "/api2/json/version", "HTTP/1.1 501 Method 'PATCH /version' not implemented: this path knows GET"),
        ("GET", "/api2/jsonx/version", "HTTP/1.1 501 No such path"),
        ("GET", "/", "HTTP/1.1 501 No such path '/'"),
        ("GET", "/api2/json/version/", "HTTP/1.1 200 OK"),
        ("GET", "/api2/json/break", "HTTP/1.1 500 An error nobody foresaw: ZeroDivisionError: by zero"),
        ("GET", "/api2/json/slow", "HTTP/1.1 500 got timeout: GET /slow"),
        ("GET", "/api2/json/nodes/n1/echo/7", "HTTP/1.1 400 Parameter verification failed."),
        ("GET", "/api2/json/nodes/n9/echo/100", "HTTP/1.1 500 Node 'n9' does not exist"),
    ],
)
async def test_what_cannot_be_served_says_so_in_the_status_line(n1: Node, method: str, path: str, line: str) -> None:
    answered, _, body = await exchange(n1, http(method, path))
    assert answered.startswith(line)
    assert "data" in json.loads(body)


async def test_extjs_tells_errors_in_the_body_with_code_200(n1: Node) -> None:
    line, _, body = await exchange(n1, http("GET", "/api2/extjs/nodes/n1/echo/7"))
    assert line == "HTTP/1.1 200 OK"
    fields = json.loads(body)
    assert (fields["success"], fields["status"], set(fields["errors"])) == (0, 400, {"vmid"})
    _, _, body = await exchange(n1, http("GET", "/api2/extjs/version"))
    assert json.loads(body)["success"] == 1


async def test_a_volume_id_keeps_its_slashes_escaped_or_not(n1: Node) -> None:
    for path in ("local:100/vm-100-disk-0.raw", "local%3A100%2Fvm-100-disk-0.raw"):
        _, _, body = await exchange(n1, http("GET", f"/api2/json/nodes/localhost/volumes/{path}"))
        assert json.loads(body)["data"] == "local:100/vm-100-disk-0.raw"


async def test_a_body_that_is_too_large_is_refused(n1: Node) -> None:
    async with n1.local() as client:
        with pytest.raises(BadRequest, match="too large"):
            await client.post("/nodes/n1/fail", text="x" * (MAX_BODY + 1))


async def test_the_schema_lists_every_row(n1: Node) -> None:
    _, _, body = await exchange(n1, http("GET", "/api2/openapi.json"))
    document = json.loads(body)
    echo = document["paths"]["/nodes/{node}/echo/{vmid}"]
    assert set(echo) == {"get", "post", "put", "delete"}
    assert {p["name"]: p["in"] for p in echo["get"]["parameters"]}["vmid"] == "path"
    assert "full-clone" in echo["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert echo["get"]["x-racimo-permission"] == "/vms/{vmid}, VM.Audit"


async def test_whoever_has_no_certificate_must_log_in(datacenter: Datacenter) -> None:
    context = ssl.create_default_context(cafile=str(datacenter.n1.tls.ca))
    async with ApiClient.tls("127.0.0.1", datacenter.n1.server.port, context) as client:
        with pytest.raises(NotLoggedIn, match="No ticket"):
            await client.get("/version")
        with pytest.raises(NotLoggedIn):
            await client.get("/nope")
        with pytest.raises(OperationFailed, match="ZeroDivisionError"):
            await client.get("/break")  # the row that needs no login


async def test_a_peers_headers_are_believed_of_a_peer_alone(datacenter: Datacenter) -> None:
    url = f"https://127.0.0.1:{datacenter.n1.server.port}/api2/json/version"
    context = ssl.create_default_context(cafile=str(datacenter.n1.tls.ca))
    async with aiohttp.ClientSession() as session:
        answer = await session.get(url, ssl=context, headers={"X-Racimo-User": "root@pam"})
        assert answer.status == 401
        await answer.read()


async def test_a_node_is_known_by_its_certificate(n1: Node, n2: Node) -> None:
    assert await n1.peers.call("n2", "POST", "/nodes-only") == "n1"
    with pytest.raises(Unauthorised, match="only nodes"):
        await n1.peers.call("n2", "POST", "/nodes-only", user="ana@pve")


@pytest.mark.parametrize(("name", "node_id"), [("n3", "dc-1"), ("n1", "dc-2")])
async def test_a_certificate_that_names_no_node_of_ours_is_no_login(
    datacenter: Datacenter, name: str, node_id: str, tmp_path: Path
) -> None:
    files = datacenter.authority.issue(name, node_id)
    async with ApiClient.tls("127.0.0.1", datacenter.n2.server.port, files.client_context()) as client:
        with pytest.raises(NotLoggedIn):
            await client.get("/version")


async def test_a_certificate_of_another_authority_ends_the_handshake(datacenter: Datacenter, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other").issue("n1")
    context = ssl.create_default_context(cafile=str(datacenter.n1.tls.ca))
    context.load_cert_chain(stranger.certificate, stranger.key)
    async with ApiClient.tls("127.0.0.1", datacenter.n1.server.port, context) as client:
        with pytest.raises(Unreachable):
            await client.get("/version")


async def test_new_certificates_serve_new_connections_on_the_same_port(datacenter: Datacenter) -> None:
    node, port = datacenter.n1, datacenter.n1.server.port
    before = ssl.get_server_certificate
    first = await asyncio.to_thread(before, ("127.0.0.1", port))
    await node.server.serve_tls(datacenter.authority.issue("n1"), "127.0.0.1", 0)
    assert node.server.port == port
    assert await asyncio.to_thread(before, ("127.0.0.1", port)) != first
    assert await datacenter.n2.peers.call("n1", "POST", "/nodes-only") == "n2"


async def test_an_address_in_use_is_said_to_be(datacenter: Datacenter) -> None:
    node = Node("n3", datacenter.root, datacenter.directory, datacenter.authority.issue("n3"))
    try:
        with pytest.raises(OperationFailed, match="already in use"):
            await node.server.serve_tls(node.tls, "127.0.0.1", datacenter.n1.server.port)
        with pytest.raises(Conflict, match="Another daemon"):
            await node.server.serve_unix(datacenter.n1.paths.node_socket)
    finally:
        await node.stop()


async def test_a_socket_left_by_a_dead_daemon_is_replaced(datacenter: Datacenter) -> None:
    node = Node("n3", datacenter.root, datacenter.directory, datacenter.authority.issue("n3"))
    node.paths.node_socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(node.paths.node_socket))
    await node.server.serve_unix(node.paths.node_socket)
    async with node.local() as client:
        assert await client.get("/cluster/tasks") == []
    await node.stop()
    assert not node.paths.node_socket.exists()


async def test_a_missing_daemon_is_said_to_be_missing(tmp_path: Path) -> None:
    async with ApiClient.unix(tmp_path / "none.sock") as client:
        with pytest.raises(Unreachable, match="No such file") as raised:
            await client.get("/version")
    assert not raised.value.may_have_acted
    assert "systemctl" in raised.value.todo


async def test_who_goes_away_breaks_off_a_read(n1: Node) -> None:
    async with n1.local() as client:
        with pytest.raises(Unreachable, match="no answer"):
            await client.request("GET", "/nodes/n1/gated", {}, timeout=0.1)
    await asyncio.wait_for(n1.bench.finished.wait(), 5)
    assert n1.bench.done == ["cancelled"]


async def test_who_goes_away_does_not_break_off_a_change(n1: Node) -> None:
    async with n1.local() as client:
        with pytest.raises(Unreachable) as raised:
            await client.request("POST", "/nodes/n1/gated", {}, timeout=0.1)
    assert raised.value.may_have_acted
    n1.bench.go_on.set()
    await asyncio.wait_for(n1.bench.finished.wait(), 5)
    assert n1.bench.done == ["done"]


async def test_closing_lets_changes_end_and_breaks_reads_off(n1: Node) -> None:
    async with n1.local() as client:
        change = asyncio.create_task(client.post("/nodes/n1/gated"))
        await asyncio.wait_for(n1.bench.entered.wait(), 5)
        closing = asyncio.create_task(n1.server.close())
        await asyncio.sleep(0)
        n1.bench.go_on.set()
        assert await change == "done"
        await asyncio.wait_for(closing, 5)


async def test_an_unknown_service_says_which_part_is_missing(n1: Node) -> None:
    n1.services.rooms.clear()
    async with n1.local() as client:
        with pytest.raises(OperationFailed, match="This node has no Bench"):
            await client.post("/nodes/n1/work")


async def test_a_node_that_is_not_there_is_not_found(n1: Node) -> None:
    with pytest.raises(NotFound):
        await n1.peers.call("n9", "GET", "/version")


@pytest.mark.parametrize("sent", [b"", b"GET /api2/json/version HTTP/1.1\r\nHost: n"])
async def test_a_connection_without_a_whole_request_is_closed_after_a_while(n1: Node, sent: bytes) -> None:
    _, _, body = await exchange(n1, sent)
    assert body == b""


async def test_a_call_may_take_longer_than_a_connection_may_idle(n1: Node) -> None:
    async with n1.local() as client:
        answer = asyncio.create_task(client.get("/nodes/n1/gated"))
        await asyncio.wait({answer}, timeout=0.8)
        n1.bench.go_on.set()
        assert await answer == "done"
