"""Certificates, and the pinned connection of a machine that joins."""

from __future__ import annotations

import dataclasses
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from racimo.datacenter.authority import (
    Subject,
    addresses_in,
    due_for_renewal,
    fingerprint,
    issued_by,
    new_authority,
    read_subject,
)
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.join_client import HttpsJoinClient
from racimo.datacenter.join_message import JoinRequest
from racimo.errors import AlreadyExists, Refused, Unreachable
from racimo.model.paths import NodePaths
from racimo.task.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.model.datacenter import Authority

DAY = 86400.0
SUBJECT = Subject("n1", "id1", "dc1")
REQUEST = JoinRequest(secret="s", name="n2", node_id="id2", address="127.0.0.2")


def issued(root: Path, now: float, authority: Authority | None = None) -> tuple[CertificateFiles, Authority]:
    files = CertificateFiles.of(NodePaths(root))
    authority = authority or new_authority("dc1", "bunch", now)
    files.ensure(authority, SUBJECT, ("127.0.0.1", "10.0.0.1"), now)
    return files, authority


def test_a_node_certificate_says_who_where_and_from_whom(tmp_path: Path) -> None:
    files, authority = issued(tmp_path, time.time())
    certificate = files.cert.read_text()
    assert read_subject(certificate) == SUBJECT
    assert addresses_in(certificate) == {"127.0.0.1", "10.0.0.1"}
    assert issued_by(certificate, authority.certificate)
    assert not issued_by(certificate, new_authority("dc1", "bunch", time.time()).certificate)
    assert certificate.endswith(authority.certificate)
    assert files.key.stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_renewed_when_less_than_a_third_is_left_and_keeps_its_key(tmp_path: Path) -> None:
    now = time.time()
    files, authority = issued(tmp_path, now)
    first, key = files.cert.read_text(), files.key.read_text()
    assert not due_for_renewal(first, now + 240 * DAY)
    assert not files.ensure(authority, SUBJECT, ("127.0.0.1",), now + 240 * DAY)
    assert files.ensure(authority, SUBJECT, ("127.0.0.1",), now + 250 * DAY)
    assert files.cert.read_text() != first
    assert files.key.read_text() == key


@pytest.mark.parametrize("harm", ["address", "subject", "authority", "garbage", "key"])
def test_a_certificate_that_does_not_fit_is_replaced(tmp_path: Path, harm: str) -> None:
    now = time.time()
    files, authority = issued(tmp_path, now)
    subject, addresses = SUBJECT, ("127.0.0.1",)
    match harm:
        case "address":
            addresses = ("10.9.9.9",)
        case "subject":
            subject = Subject("n1", "id2", "dc1")
        case "authority":
            authority = new_authority("dc2", "other", now)
        case "garbage":
            files.cert.write_text("garbage")
        case "key":
            files.key.write_text("garbage")
    assert files.ensure(authority, subject, addresses, now)
    assert not files.wrong(authority, subject, addresses, now)


async def serve(files: CertificateFiles, answer: tuple[int, dict[str, object]]) -> tuple[web.AppRunner, int, list[str]]:
    """A member's API on a free port of 127.0.0.1; what it was asked is appended to the list."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(f"{request.path} {(await request.json())['secret']}")
        return web.json_response(answer[1], status=answer[0])

    application = web.Application()
    application.router.add_post("/api2/json/racimo/join/{verb}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    return runner, port, asked


async def test_the_member_with_the_right_authority_is_asked(tmp_path: Path) -> None:
    files, authority = issued(tmp_path, time.time())
    answer = {"data": {"datacenter": "dc1", "name": "bunch", "warnings": ["a"], "renumbered": {"100": 101}}}
    runner, port, asked = await serve(files, (200, answer))
    try:
        client = HttpsJoinClient(["127.0.0.1"], fingerprint(authority.certificate), port)
        checked = await client.check(REQUEST)
    finally:
        await runner.cleanup()
    assert (checked.warnings, checked.renumbered) == (("a",), {100: 101})
    assert asked == ["/api2/json/racimo/join/check s"]


async def test_the_secret_is_not_told_to_another_authority(tmp_path: Path) -> None:
    files, _ = issued(tmp_path, time.time())
    runner, port, asked = await serve(files, (200, {}))
    try:
        client = HttpsJoinClient(["127.0.0.1"], "0" * 64, port)
        with pytest.raises(Refused, match="for another cluster"):
            await client.check(REQUEST)
    finally:
        await runner.cleanup()
    assert asked == []


async def test_a_refusal_comes_through_as_it_was_raised(tmp_path: Path) -> None:
    files, authority = issued(tmp_path, time.time())
    refusal = Failure.of(AlreadyExists("The cluster has a node 'n2' already", why="because", todo="Rename it"))
    body: dict[str, object] = {"data": None, "racimo": dataclasses.asdict(refusal)}
    runner, port, _ = await serve(files, (500, body))
    try:
        client = HttpsJoinClient(["127.0.0.1"], fingerprint(authority.certificate), port)
        with pytest.raises(AlreadyExists, match=r"node 'n2' already: because\. Rename it"):
            await client.check(REQUEST)
    finally:
        await runner.cleanup()


async def test_members_that_cannot_be_reached_are_all_named() -> None:
    client = HttpsJoinClient(["127.0.0.1", "127.0.0.2"], "0" * 64, 9)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1: .*127\.0\.0\.2: ") as caught:
        await client.check(REQUEST)
    assert not caught.value.may_have_acted
