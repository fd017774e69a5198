"""Block jobs of a running QEMU: copies of drives that it makes while the guest runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from racimo.errors import OperationFailed
from racimo.guest.migration_status import next_look
from racimo.guest.qemu.monitor import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from racimo.guest.qemu.monitor import Monitor
    from racimo.storage.base import BlockSource

log = structlog.get_logger()

POLL = 0.5
END_TIMEOUT = 60.0
"""Seconds for cancelled jobs to end: what is under way to the storage is waited for."""

CONCLUDED, READY = "concluded", "ready"


async def follow_jobs(monitor: Monitor, jobs: Iterable[str], until: str, told: Callable[[float], None]) -> None:
    """Wait until each job is ``until`` (``ready`` or ``concluded``). Raises ``OperationFailed`` with what QEMU said.

    There is no limit of time: a large disk takes hours. ``told`` gets how far all are, from 0 to 1.
    """
    names = list(jobs)
    with monitor.events("JOB_STATUS_CHANGE", "BLOCK_JOB_ERROR") as events:
        while True:
            found = await _jobs(monitor)
            for name in names:
                error = found.get(name, {"error": "it is gone"}).get("error")
                if error or (until == READY and found[name]["status"] == CONCLUDED):
                    raise OperationFailed(f"A copy of {monitor.label} failed", why=str(error or "it ended early"))
            told(_done([found[name] for name in names]))
            if all(found[name]["status"] == until for name in names):
                return
            await next_look(events, POLL)


async def end_jobs(monitor: Monitor, names: Iterable[str]) -> None:
    """Cancel these jobs where they still run, and have QEMU forget them."""
    wanted = set(names)
    with monitor.events("JOB_STATUS_CHANGE") as events:
        async with asyncio.timeout(END_TIMEOUT):
            while left := [job for job in (await _jobs(monitor)).values() if job["id"] in wanted]:
                for job in left:
                    with suppress(CommandRefused):  # it ended, or went, just now
                        if job["status"] == CONCLUDED:
                            await monitor.execute("job-dismiss", {"id": job["id"]})
                        else:
                            await monitor.execute("block-job-cancel", {"device": job["id"], "force": True})
                await next_look(events, POLL)


async def job_names(monitor: Monitor) -> list[str]:
    """The jobs that QEMU knows, ended ones included."""
    return sorted(await _jobs(monitor))


async def is_ready(monitor: Monitor, name: str) -> bool:
    """Whether both images of a mirror are the same at every moment now."""
    return bool((await _jobs(monitor)).get(name, {}).get("status") == READY)


async def add_target(monitor: Monitor, name: str, source: BlockSource) -> None:
    """Open an image to be written by a job, as the block node ``name`` over ``name-file``."""
    await remove_target(monitor, name)
    cache = {"direct": source.direct, "no-flush": False}
    file: dict[str, object] = {**source.protocol, "node-name": f"{name}-file", "cache": cache, "discard": "unmap"}
    if source.locking:
        file["locking"] = "on"
    await monitor.execute("blockdev-add", file)
    node: dict[str, object] = {
        "driver": source.format, "node-name": name, "file": f"{name}-file", "cache": cache, "discard": "unmap",
        "detect-zeroes": "unmap",
    }  # fmt: skip
    await monitor.execute("blockdev-add", node)


async def remove_target(monitor: Monitor, name: str) -> None:
    """Close what ``add_target`` opened, if it did."""
    for node in (name, f"{name}-file"):
        with suppress(CommandRefused):
            await monitor.execute("blockdev-del", {"node-name": node})


async def _jobs(monitor: Monitor) -> dict[str, Any]:
    found: Any = await monitor.execute("query-jobs")
    return {str(job["id"]): job for job in found}


def _done(jobs: list[dict[str, Any]]) -> float:
    total = sum(int(job.get("total-progress", 0)) for job in jobs)
    return sum(int(job.get("current-progress", 0)) for job in jobs) / total if total else 0.0
