"""Files that come to a storage over TLS as clients send them, and from a web server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import resource
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from racimo.api.client import ApiClient
from racimo.errors import BadParameter, OperationFailed, Refused
from racimo.model.storage import Storage
from racimo.storage.fetch import Remote, is_public, opened
from racimo.storage.volumes import Volumes

from .site import Answer, Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MIB = 1 << 20
FILE = b"0123456789abcdef" * 4096
SUM = hashlib.sha256(FILE).hexdigest()
CONTENT = ("images", "iso", "import", "vztmpl")


@pytest.fixture
async def store(site: Site, tmp_path: Path) -> Site:
    """A node with a directory, and somebody who may do everything on it."""
    definitions = {"fast": Storage(id="fast", type="dir", path=str(tmp_path / "fast"), content=CONTENT)}
    site.services.provide(Volumes(lambda: definitions, "n1"))
    await site.user()
    await site.grant("/", "anna@pve", "Administrator")
    return site


def files(tmp_path: Path) -> list[str]:
    root = tmp_path / "fast"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def send(
    site: Site, fields: dict[str, str], name: str = "a.iso", content: Any = FILE, user: str = "anna@pve"
) -> Answer:
    """As proxmoxer and Terraform's provider do: the fields first, then the file as the part ``filename``."""
    assert site.session is not None
    form = aiohttp.FormData()
    for field, value in fields.items():
        form.add_field(field, value)
    form.add_field("filename", content, filename=name, content_type="application/octet-stream")
    url = f"https://127.0.0.1:{site.server.port}/api2/json/nodes/n1/storage/fast/upload"
    async with site.session.post(url, data=form, headers=await site.ticket(user)) as answer:
        return Answer(answer.status, answer.reason or "", await answer.json())


async def exitstatus(site: Site, answer: Answer) -> str:
    assert answer.status == 200, answer.reason
    return (await site.tasks.wait(answer.data, 20)).exitstatus


async def test_an_upload_is_there_under_its_name_and_can_be_removed(store: Site, tmp_path: Path) -> None:
    sent = await send(store, {"content": "iso", "checksum": SUM, "checksum-algorithm": "sha256"})
    assert await exitstatus(store, sent) == "OK"
    assert (tmp_path / "fast/template/iso/a.iso").read_bytes() == FILE
    admin = await store.ticket()
    listed = await store.ask("GET", "/nodes/n1/storage/fast/content", admin, {"content": "iso"})
    assert [(each["volid"], each["size"]) for each in listed.data] == [("fast:iso/a.iso", len(FILE))]
    one = await store.ask("GET", "/nodes/n1/storage/fast/content/fast:iso/a.iso", admin)
    assert (one.data["size"], one.data["path"]) == (len(FILE), str(tmp_path / "fast/template/iso/a.iso"))
    assert (await store.ask("GET", "/nodes/n1/storage/fast/status", admin)).data["active"] == 1
    removed = await store.ask("DELETE", "/nodes/n1/storage/fast/content/fast%3Aiso%2Fa.iso", admin)
    assert await exitstatus(store, removed) == "OK"
    assert files(tmp_path) == []


async def test_a_wrong_sum_leaves_nothing(store: Site, tmp_path: Path) -> None:
    sent = await send(store, {"content": "iso", "checksum": "0" * 64, "checksum-algorithm": "sha256"})
    assert "checksum mismatch" in await exitstatus(store, sent)
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["../../a.iso", "a/../b.iso", ".a.iso", "a..iso", "a.qcow2", "-a.iso", "x" * 201])
async def test_a_name_that_leads_elsewhere_is_refused(store: Site, tmp_path: Path, name: str) -> None:
    assert (await send(store, {"content": "iso"}, name)).status == 400
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "fields", [{}, {"content": "images"}, {"content": "backup"}, {"content": "iso", "checksum": "00"}, {"content": ""}]
)
async def test_a_form_without_what_it_needs_is_refused(store: Site, tmp_path: Path, fields: dict[str, str]) -> None:
    assert (await send(store, fields)).status == 400
    assert files(tmp_path) == []


async def test_who_may_not_is_refused_and_nothing_is_written(store: Site, tmp_path: Path) -> None:
    await store.user("ben@pve")
    assert (await send(store, {"content": "iso"}, user="ben@pve")).status == 403
    assert files(tmp_path) == []


async def test_an_upload_far_larger_than_a_body_may_be_is_not_held_in_memory(store: Site, tmp_path: Path) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(96):
            yield bytes(MIB)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert await exitstatus(store, await send(store, {"content": "import"}, "d.raw", much())) == "OK"
    assert (tmp_path / "fast/import/d.raw").stat().st_size == 96 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 48 << 10


async def test_an_upload_that_breaks_off_leaves_nothing(store: Site, tmp_path: Path) -> None:
    async def some() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        raise ConnectionAbortedError

    with pytest.raises((aiohttp.ClientError, ConnectionAbortedError)):
        await send(store, {"content": "import"}, "d.raw", some())
    async with asyncio.timeout(10):
        while store.server._writes:
            await asyncio.wait(store.server._writes)
    assert files(tmp_path) == []


async def test_a_disk_is_made_with_the_name_that_was_asked_for(store: Site, tmp_path: Path) -> None:
    admin = await store.ticket()
    given = {"vmid": "100", "filename": "vm-100-disk-3.qcow2", "size": "8G"}
    made = await store.ask("POST", "/nodes/n1/storage/fast/content", admin, given)
    assert made.data == "fast:100/vm-100-disk-3.qcow2"
    wrong = {**given, "filename": "vm-101-disk-0.qcow2"}
    assert (await store.ask("POST", "/nodes/n1/storage/fast/content", admin, wrong)).status == 400
    assert files(tmp_path) == ["images/100/vm-100-disk-3.qcow2"]


async def test_a_volume_of_another_storage_or_outside_is_refused(store: Site) -> None:
    admin = await store.ticket()
    for volume in ("slow:iso/a.iso", "fast:iso/..%2F..%2Fetc", "fast:../x"):
        assert (await store.ask("GET", f"/nodes/n1/storage/fast/content/{volume}", admin)).status == 400


@pytest.fixture
async def web_server() -> AsyncIterator[str]:
    async def whole(request: web.Request) -> web.Response:
        return web.Response(body=FILE, content_type="application/x-iso9660-image")

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("/a.iso")

    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(len(FILE))})
        await answer.prepare(request)
        await answer.write(FILE[:1000])
        assert request.transport is not None
        request.transport.abort()
        return answer

    app = web.Application()
    app.add_routes([web.get("/a.iso", whole), web.get("/moved", elsewhere), web.get("/broken", broken)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def fetch(site: Site, url: str, **more: str) -> str:
    given = {"url": url, "content": "iso", "filename": "b.iso", **more}
    answer = await site.ask("POST", "/nodes/n1/storage/fast/download-url", await site.ticket(), given)
    return await exitstatus(site, answer)


async def test_a_file_is_fetched_over_a_redirection_and_never_over_another(
    store: Site, tmp_path: Path, web_server: str
) -> None:
    given = {"checksum": SUM, "checksum-algorithm": "sha256"}
    assert await fetch(store, f"{web_server}/moved", **given) == "OK"
    assert (tmp_path / "fast/template/iso/b.iso").read_bytes() == FILE
    assert "already exists" in await fetch(store, f"{web_server}/a.iso")
    seen = await store.ask("GET", "/nodes/n1/query-url-metadata", await store.ticket(), {"url": f"{web_server}/a.iso"})
    assert seen.data == {"filename": "a.iso", "size": len(FILE), "mimetype": "application/x-iso9660-image"}


async def test_a_fetch_that_fails_leaves_nothing(store: Site, tmp_path: Path, web_server: str) -> None:
    assert "broke off" in await fetch(store, f"{web_server}/broken")
    assert "404" in await fetch(store, f"{web_server}/none.iso")
    assert "mismatch" in await fetch(store, f"{web_server}/a.iso", checksum="0" * 32, **{"checksum-algorithm": "md5"})
    assert files(tmp_path) == []


async def test_only_who_runs_the_datacenter_reaches_private_addresses(store: Site, web_server: str) -> None:
    for url in (f"{web_server}/a.iso", "http://localhost:1/", "http://169.254.169.254/latest", "http://[::1]/x"):
        with pytest.raises(Refused, match="not a public address"):
            async with opened(Remote(url)):
                pass
    with pytest.raises(BadParameter):
        Remote("file:///etc/shadow").validate()
    with pytest.raises(OperationFailed):
        async with opened(Remote("http://127.0.0.1:1/", anywhere=True)):
            pass


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
)
def test_private_local_and_metadata_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


def test_addresses_of_the_internet_are_public() -> None:
    assert is_public("9.9.9.9")
    assert is_public("2620:fe::fe")


async def test_the_command_lines_client_uploads_over_the_unix_socket(store: Site, tmp_path: Path) -> None:
    (tmp_path / "c.iso").write_bytes(FILE)
    await store.server.serve_unix(store.paths.node_socket)
    async with ApiClient.unix(store.paths.node_socket) as client:
        with (tmp_path / "c.iso").open("rb") as file:
            path = "/nodes/n1/storage/fast/upload"
            upid = await client.upload(path, {"content": "iso"}, file, name="c.iso", timeout=20)
        assert (await client.wait_task(upid)).exitstatus == "OK"
    assert files(tmp_path) == ["template/iso/c.iso"]


async def test_an_upload_goes_through_another_node_to_the_one_it_is_for(store: Site, tmp_path: Path) -> None:
    other = Site(tmp_path, name="n2", store=store.store, directory=store.directory, authority=store.authority)
    await other.start()
    try:
        form = aiohttp.FormData({"content": "import"})
        form.add_field(
            "filename", io.BytesIO(bytes(8 * MIB)), filename="d.raw", content_type="application/octet-stream"
        )
        assert store.session is not None
        url = f"https://127.0.0.1:{other.server.port}/api2/json/nodes/n1/storage/fast/upload"
        async with store.session.post(url, data=form, headers=await store.ticket()) as answer:
            upid = (await answer.json())["data"]
        assert (await store.tasks.wait(upid, 20)).exitstatus == "OK"
        assert files(tmp_path) == ["import/d.raw"]
    finally:
        await other.stop()


async def test_a_fetch_that_is_cancelled_half_way_leaves_nothing(store: Site, tmp_path: Path) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(FILE)
        begun.set()
        await end.wait()
        return answer

    app = web.Application()
    app.router.add_get("/a.iso", endless)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    given = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/a.iso", "content": "iso", "filename": "b.iso"}
    answer = await store.ask("POST", "/nodes/n1/storage/fast/download-url", await store.ticket(), given)
    async with asyncio.timeout(10):
        await begun.wait()
    store.tasks.cancel(answer.data)
    assert (await store.tasks.wait(answer.data, 10)).exitstatus != "OK"
    assert files(tmp_path) == []
    end.set()
    await runner.cleanup()
