"""Run by test_create as a process of its own: begins a cluster and dies at a given point, without clean-up.

Arguments: root, address, the text of the report at which to die.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from racimo.datacenter.create import CreateRequest, create
from racimo.datacenter.host import Host
from racimo.datacenter.open_store import open_sqlite
from racimo.model.paths import NodePaths


class Services:
    """Starts etcd and writes down its process id."""

    def __init__(self, root: Path) -> None:
        self.root = root

    async def start(self, unit: str) -> None:
        with (self.root / "etcd.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                "etcd", "--config-file", str(self.root / "etc/racimo/etcd.conf.yml"), stdout=log, stderr=log
            )
        (self.root / "etcd.pid").write_text(str(process.pid))

    async def stop(self, unit: str) -> None: ...

    async def active(self, unit: str) -> bool:
        return True

    async def journal(self, unit: str) -> str:
        return ""


class Fuse:
    """A report that ends the process."""

    def __init__(self, at: str) -> None:
        self.at = at

    def log(self, text: str) -> None:
        self._burn(text)

    def warn(self, text: str) -> None:
        self._burn(text)

    def progress(self, fraction: float, text: str = "") -> None:
        self._burn(text)

    def _burn(self, text: str) -> None:
        if self.at in text and text:
            os._exit(9)


async def main(root: Path, address: str, at: str) -> None:
    host = Host(Services(root), NodePaths(root), listen_loopback=False)
    await create(host, open_sqlite(host.paths), CreateRequest(name="bunch", address=address), Fuse(at))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
