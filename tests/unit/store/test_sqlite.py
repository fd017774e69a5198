"""What the SQLite store promises beyond the contract: durable, shared by two processes, clear when the disk is full."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import pytest

from racimo.errors import StoreError, StoreUnavailable
from racimo.store.base import Compare, Put
from racimo.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

WRITER = textwrap.dedent(
    """
    import asyncio, itertools, pathlib, sys
    from racimo.store.base import Put
    from racimo.store.sqlite import SqliteStore

    async def main():
        store = SqliteStore(pathlib.Path(sys.argv[1]))
        for number in itertools.count(1):
            await store.txn(puts=[Put("/last", str(number).encode()), Put(f"/each/{number:06}", b"")])
            print(number, flush=True)

    asyncio.run(main())
    """
)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    try:
        yield store
    finally:
        await store.close()


async def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(50)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        acknowledged = int(next(line for line in reversed(lines) if line.endswith(b"\n")))
        async with opened(path) as store:
            last = await store.get("/last")
            assert last is not None
            assert acknowledged <= int(last.value) <= acknowledged + 1
            each = (await store.list("/each/")).records
            assert len(each) >= int(last.value)


async def test_a_watch_sees_every_change_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with opened(path) as store:
        start = await store.revision()
        changes = store.watch("/each/", start)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            async with asyncio.timeout(20):
                keys = [(await anext(changes)).events[0].key for _ in range(100)]
            writer.kill()
        assert keys == [f"/each/{number:06}" for number in range(1, 101)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.root
async def test_a_full_disk_is_told_clearly_and_harms_nothing(small_disk: Path) -> None:
    async with opened(small_disk / "store.sqlite") as store:
        before = await store.txn(puts=[Put("/a", b"kept")]) or 0
        with (small_disk / "ballast").open("wb") as ballast:
            while os.statvfs(small_disk).f_bavail > 4:
                os.write(ballast.fileno(), bytes(4096))
        with pytest.raises(StoreUnavailable, match=r"store\.sqlite: database or disk is full\. Free space on the disk"):
            await store.txn(puts=[Put("/a", bytes(100_000))])
        stored = await store.get("/a")
        assert stored is not None and (stored.value, stored.revision) == (b"kept", before)
        (small_disk / "ballast").unlink()
        assert await store.txn([Compare("/a", before)], [Put("/a", b"new")]) == before + 1


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.sqlite") as store:
        await store.txn(puts=[Put("/a", b"secret")])
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


async def test_a_missing_folder_is_told_clearly(tmp_path: Path) -> None:
    async with opened(tmp_path / "none" / "store.sqlite") as store:
        with pytest.raises(StoreUnavailable, match=r"cannot be opened: .*No such file.*folder exists"):
            await store.get("/a")


async def test_what_is_no_store_is_told_clearly(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"no database at all" * 100)
    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match=r"file is not a database\. Restore the store from a backup"):
            await store.get("/a")


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with opened(path) as store:
        await store.revision()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    async with opened(path) as store:
        with pytest.raises(StoreError, match=r"newer Racimo.*Upgrade this node"):
            await store.get("/a")


async def test_the_history_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = SqliteStore(path, history=300)
    for number in range(700):
        await store.txn(puts=[Put("/a", str(number).encode())])
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM history").fetchone()[0] <= 300 + 256


async def test_the_event_loop_goes_on_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    async with opened(path) as store:
        await store.txn(puts=[Put("/a", b"1")])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.txn(puts=[Put("/a", b"2")]))
            for _ in range(10):
                await asyncio.sleep(0.01)
            assert not writing.done()
            other.execute("ROLLBACK")
        async with asyncio.timeout(5):
            assert await writing is not None
