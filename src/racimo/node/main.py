"""``racimo-node``: the daemon's entry point."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import structlog

from racimo.datacenter.services import SystemdServices
from racimo.guest.units import SystemdUnits
from racimo.model.paths import NodePaths
from racimo.node.daemon import NodeDaemon
from racimo.node.notify import notify


def main() -> None:
    """Run until SIGTERM or SIGINT. Logs to standard error, which systemd keeps in the journal."""
    level = logging.getLevelNamesMapping().get(os.environ.get("RACIMO_LOG", "info").upper(), logging.INFO)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(_run())


async def _run() -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    daemon = NodeDaemon(NodePaths(), SystemdUnits(), SystemdServices())
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell_when_ready(daemon))
        await daemon.run(stop)
        telling.cancel()
    notify("STOPPING=1")


async def _tell_when_ready(daemon: NodeDaemon) -> None:
    await daemon.ready.wait()
    notify("READY=1")


if __name__ == "__main__":
    main()
