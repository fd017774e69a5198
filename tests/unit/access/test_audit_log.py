from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from racimo.access.audit import AuditLog, Deed

from .site import PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .site import Site


@pytest.fixture
async def audited(site: Site) -> AsyncIterator[Site]:
    log = AuditLog(site.paths.log)
    site.services.provide(log)
    writing = asyncio.create_task(log.run())
    yield site
    writing.cancel()
    await asyncio.wait({writing})


async def lines(site: Site, count: int) -> list[dict[str, object]]:
    """Those written: there must be so many."""
    await site.services.need(AuditLog).written()
    found = [json.loads(line) for line in (site.paths.log / "audit.log").read_text().splitlines()]
    assert len(found) == count
    return found


async def test_a_change_is_noted_with_who_where_from_and_how_it_ended(audited: Site) -> None:
    await audited.user()
    root = await audited.ticket("root@pam")
    await audited.ask("PUT", "/access/users/anna@pve", root, {"comment": "not told", "email": "a@x.org"})
    (line,) = await lines(audited, 1)
    del line["at"]
    assert line == {
        "user": "root@pam", "address": "127.0.0.1", "method": "PUT", "path": "/access/users/anna@pve", "code": 200,
        "outcome": "OK", "origin": "network",
    }  # fmt: skip


async def test_refusals_are_noted_reads_are_not(audited: Site) -> None:
    await audited.user()
    token = await audited.token(name="ci")
    await audited.ask("GET", "/version", token)
    await audited.ask("GET", "/nodes/n1/status", token)
    await audited.ask("GET", "/version", {"Cookie": "PVEAuthCookie=PVE:root@pam:00000000::x"})
    refused, unknown = await lines(audited, 2)
    assert (refused["user"], refused["token"], refused["code"]) == ("anna@pve", "ci", 403)
    assert refused["outcome"] == "Permission check failed (/nodes/n1, Sys.Audit)"
    assert ("user" in unknown, unknown["code"]) == (False, 401)


async def test_no_secret_is_noted_whichever_way_it_goes_wrong(audited: Site) -> None:
    await audited.user()
    root = await audited.ticket("root@pam")
    await audited.ask("POST", "/access/ticket", {}, {"username": "anna@pve", "password": PASSWORD})
    await audited.ask("POST", "/access/ticket", {}, {"username": "anna@pve", "password": PASSWORD + "x"})
    await audited.ask("PUT", "/access/password", root, {"userid": "anna@pve", "password": PASSWORD + "new"})
    made = await audited.ask("POST", "/access/users/anna@pve/token/ci", root)
    await lines(audited, 4)
    text = (audited.paths.log / "audit.log").read_text()
    assert PASSWORD not in text
    assert made.data["value"] not in text
    assert "anna@pve" in text


async def test_the_files_are_for_root_alone_and_rotated(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=2000, kept=2)
    writing = asyncio.create_task(log.run())
    for n in range(60):
        log.note(
            Deed(at=n, user="u@pve", token="", address="", method="PUT", path="/x", code=200, outcome="OK", origin="")
        )
        await log.written()
    writing.cancel()
    await asyncio.wait({writing})
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(file.stat().st_size <= 2000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert json.loads((tmp_path / "audit.log").read_text().splitlines()[-1])["at"] == 59
