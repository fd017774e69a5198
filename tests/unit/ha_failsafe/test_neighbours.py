"""The HA daemons' own way to each other, over real sockets with real certificates."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.authority import Subject, new_authority
from racimo.datacenter.certificates import CertificateFiles
from racimo.ha.clock import SystemClock
from racimo.ha.failsafe import Answer, Question
from racimo.ha.neighbours import Door, TlsNeighbours
from racimo.model.node import Node
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from racimo.model.datacenter import Authority

QUESTION = Question("n1", "id-n1", 10.0)
PROMISE = Answer("id-n2", True, "", ("n1", "n2"))


def certified(root: Path, name: str, authority: Authority) -> NodePaths:
    paths = NodePaths(root / name)
    paths.etc.mkdir(parents=True)
    CertificateFiles.of(paths).ensure(authority, Subject(name, f"id-{name}", "d" * 8), ("127.0.0.1",), time.time())
    return paths


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def authority() -> Authority:
    return new_authority("d" * 8, "here", time.time())


@asynccontextmanager
async def door(paths: NodePaths, heard: list[Question]) -> AsyncIterator[int]:
    def answer(question: Question) -> Answer:
        heard.append(question)
        return PROMISE

    port = free_port()
    made = Door(paths, "127.0.0.1", answer, SystemClock(), port)
    serving = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(5):
            await made.opened.wait()
        yield port
    finally:
        serving.cancel()
        await asyncio.wait({serving})


async def ask(paths: NodePaths, name: str, port: int, question: Question = QUESTION) -> Answer:
    neighbours = TlsNeighbours(paths, port)
    try:
        async with asyncio.timeout(5):
            return await neighbours.ask(Node(name=name, id="id-n2", address="127.0.0.1"), question)
    finally:
        await neighbours.close()


async def test_a_member_hears_the_question_and_its_answer_comes_back(tmp_path: Path, authority: Authority) -> None:
    heard: list[Question] = []
    asker, asked = certified(tmp_path, "n1", authority), certified(tmp_path, "n2", authority)
    async with door(asked, heard) as port:
        assert await ask(asker, "n2", port) == PROMISE
    assert heard == [QUESTION]


async def test_nobody_asks_in_anothers_name(tmp_path: Path, authority: Authority) -> None:
    heard: list[Question] = []
    asker, asked = certified(tmp_path, "n3", authority), certified(tmp_path, "n2", authority)
    async with door(asked, heard) as port:
        with pytest.raises(OSError, match="403 n3 asks for n1"):
            await ask(asker, "n2", port)
    assert heard == []


async def test_the_certificate_of_another_member_is_no_answer(tmp_path: Path, authority: Authority) -> None:
    heard: list[Question] = []
    asker, other = certified(tmp_path, "n1", authority), certified(tmp_path, "n3", authority)
    async with door(other, heard) as port:
        with pytest.raises(OSError, match="n2"):
            await ask(asker, "n2", port)
    assert heard == []


async def test_a_machine_of_another_datacenter_is_not_heard(tmp_path: Path, authority: Authority) -> None:
    heard: list[Question] = []
    stranger = certified(tmp_path / "there", "n1", new_authority("e" * 8, "there", time.time()))
    asked = certified(tmp_path, "n2", authority)
    CertificateFiles.of(stranger).ca.write_text(authority.certificate)
    async with door(asked, heard) as port:
        with pytest.raises(OSError):
            await ask(stranger, "n2", port)
    assert heard == []


async def test_a_door_waits_for_its_address_and_its_certificate(tmp_path: Path, authority: Authority) -> None:
    made = Door(NodePaths(tmp_path), "127.0.0.1", lambda question: PROMISE, SystemClock(), free_port())
    serving = asyncio.create_task(made.run())
    await asyncio.sleep(0.1)
    assert not serving.done() and not made.opened.is_set()
    serving.cancel()
    await asyncio.wait({serving})


async def test_a_member_that_is_away_is_said_to_be(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(OSError, match="Cannot connect"):
        await ask(certified(tmp_path, "n1", authority), "n2", free_port())
