"""How long a write to the store takes, beside the least that the same backend needs for it.

    python bench/store.py [--count N] [--json]

etcd: a transaction of ``EtcdStore`` beside a bare put through the same member's gateway, both over one kept connection.
SQLite: a transaction of ``SqliteStore`` beside a bare commit of one row (WAL, synchronous=FULL). Times in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from racimo.errors import StoreError
from racimo.store.base import Compare, Put
from racimo.store.etcd import EtcdStore
from racimo.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from racimo.store.base import Store

VALUE = b"v" * 500
WARM_UP = 50


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """A single member on the loopback."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = ["etcd", "--data-dir", str(folder / "etcd"), "--initial-cluster", f"default={peer}"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield client
    finally:
        process.terminate()
        process.wait(10)


async def measure(pairs: dict[str, Callable[[], Awaitable[object]]], count: int) -> dict[str, list[float]]:
    """Milliseconds of each call, the contenders taking turns so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in pairs}
    for number in range(WARM_UP + count):
        for name, call in pairs.items():
            begun = time.perf_counter()
            await call()
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - begun) * 1000)
    return times


def transactions(store: Store) -> Callable[[], Awaitable[object]]:
    """Compare-and-set of one record, as all of Racimo writes."""
    revision = 0

    async def one() -> None:
        nonlocal revision
        revision = await store.txn([Compare("/racimo/bench", revision)], [Put("/racimo/bench", VALUE)]) or 0
        assert revision

    return one


async def bench_etcd(folder: Path, count: int) -> dict[str, list[float]]:
    body = {"key": base64.b64encode(b"/bare").decode(), "value": base64.b64encode(VALUE).decode()}
    with etcd(folder) as url:
        store = EtcdStore([url], None)
        await ready(store)
        async with aiohttp.ClientSession() as session:

            async def bare() -> None:
                async with session.post(f"{url}/v3/kv/put", data=json.dumps(body)) as answer:
                    await answer.json()

            try:
                return await measure({"store": transactions(store), "bare": bare}, count)
            finally:
                await store.close()


async def ready(store: EtcdStore) -> None:
    for _ in range(10):
        try:
            await store.revision()
            return
        except StoreError:
            continue
    raise SystemExit("etcd did not come up")


async def bench_sqlite(folder: Path, count: int) -> dict[str, list[float]]:
    store = SqliteStore(folder / "store.sqlite")
    with closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE records (key BLOB PRIMARY KEY, value BLOB, revision INTEGER)")

        async def bare() -> None:
            connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, 1)", (b"/bare", VALUE))

        try:
            return await measure({"store": transactions(store), "bare": bare}, count)
        finally:
            await store.close()


def summary(times: dict[str, list[float]]) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, values in times.items():
        result[f"{name}_p50_ms"] = round(statistics.median(values), 3)
        result[f"{name}_p99_ms"] = round(statistics.quantiles(values, n=100)[98], 3)
    result["ratio_p50"] = round(result["store_p50_ms"] / result["bare_p50_ms"], 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "etcd": summary(asyncio.run(bench_etcd(folder, arguments.count))),
            "sqlite": summary(asyncio.run(bench_sqlite(folder, arguments.count))),
        }
    if arguments.json:
        print(json.dumps({"count": arguments.count, **results}))
        return
    for backend, figures in results.items():
        print(
            f"{backend:7} store {figures['store_p50_ms']:.2f} ms (p99 {figures['store_p99_ms']:.2f})   "
            f"bare {figures['bare_p50_ms']:.2f} ms (p99 {figures['bare_p99_ms']:.2f})   "
            f"ratio {figures['ratio_p50']:.2f}"
        )


if __name__ == "__main__":
    main()
