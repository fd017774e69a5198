"""What cannot be is refused: the message says what happened, why, and what to do, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from lab_talk import call, refused, standing_lab, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.root]

FAILED, USAGE, NOT_FOUND, REFUSED = 1, 2, 3, 4
SMALL = "/srv/small"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes, a stopped guest 100, and a storage 'small' of 8 MiB on n1."""
    with standing_lab("ri", nodes=2) as lab:
        asyncio.run(prepare(lab))
        yield lab


async def prepare(lab: Lab) -> None:
    n1 = lab.node("n1")
    await call(n1, "post", "/nodes/n1/qemu", vmid=100, memory=32, name="web", scsi0="local:1")
    await n1.succeed("sh", "-c", f"mkdir {SMALL} && mount -t tmpfs -o size=8M small {SMALL}")
    small = {"storage": "small", "type": "dir", "path": SMALL, "nodes": "n1", "content": "images"}
    await call(n1, "post", "/storage", **small, preallocation="full")


CREATE = ("guest", "create", "200", "--memory", "32")
CASES = [
    pytest.param(("guest", "start", "999"), NOT_FOUND, ("999",), id="unknown-guest"),
    pytest.param(("guest", "config", "999"), NOT_FOUND, ("999",), id="unknown-guest-config"),
    pytest.param(("node", "status", "n9"), NOT_FOUND, ("n9", "n1, n2"), id="unknown-node"),
    pytest.param((*CREATE, "--node", "n9"), NOT_FOUND, ("n9", "n1, n2"), id="create-on-unknown-node"),
    pytest.param(("guest", "migrate", "100", "n9"), NOT_FOUND, ("n9", "n1, n2"), id="migrate-to-unknown-node"),
    pytest.param(("cluster", "remove", "n9"), NOT_FOUND, ("n9", "n1, n2"), id="remove-unknown-node"),
    pytest.param((*CREATE, "--scsi0", "nope:1"), NOT_FOUND, ("nope", "local"), id="unknown-storage"),
    pytest.param(("storage", "remove", "nope"), NOT_FOUND, ("nope", "local"), id="remove-unknown-storage"),
    pytest.param((*CREATE, "--scsi0", "shared:1,import-from=/srv/nope.raw"), NOT_FOUND, ("nope.raw",), id="image"),
    pytest.param(("task", "log", "nope"), NOT_FOUND, ("nope",), id="unknown-task"),
    pytest.param(("guest", "create", "100", "--memory", "32"), REFUSED, ("100", "web", "n1"), id="taken-guest"),
    pytest.param(("storage", "add", "local", "--path", "/srv/x"), REFUSED, ("local",), id="taken-storage"),
    pytest.param(("storage", "remove", "local"), REFUSED, ("local", "100"), id="storage-in-use"),
    pytest.param((*CREATE, "--scsi0", "small:1", "--node", "n2"), REFUSED, ("small", "n1"), id="storage-elsewhere"),
    pytest.param(("guest", "create", "99"), USAGE, ("vmid", "100"), id="number-too-low"),
    pytest.param(("guest", "create", "abc"), USAGE, ("vmid",), id="number-no-number"),
    pytest.param(("guest", "create", "200", "--memory", "abc"), USAGE, ("memory", "'abc'"), id="memory-no-number"),
    pytest.param((*CREATE, "--scsi0", "shared:x"), NOT_FOUND, ("shared:x",), id="unknown-volume"),
    pytest.param((*CREATE, "--scsi0", "shared:1,format=vhd"), USAGE, ("scsi0", "vhd"), id="disk-format"),
    pytest.param((*CREATE, "--net0", "virtio,bridge="), USAGE, ("net0",), id="bridge-empty"),
    pytest.param((*CREATE, "--ipconfig0", "ip=300.1.1.1/24"), USAGE, ("ipconfig0",), id="address-malformed"),
    pytest.param((*CREATE, "--set", "nonsense=1"), USAGE, ("nonsense",), id="unknown-key"),
    pytest.param(("guest", "set", "100", "memory=0"), USAGE, ("memory",), id="set-out-of-range"),
    pytest.param(("guest", "migrate", "100", "n2", "--bwlimit", "ff"), USAGE, ("ff", "100M"), id="rate-malformed"),
    pytest.param(("storage", "add", "more", "--path", "relative"), USAGE, ("path", "relative"), id="path-relative"),
    pytest.param((*CREATE, "--scsi0", "small:1"), FAILED, ("small", "bytes are free"), id="disk-full"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "saying"), CASES)
async def test_it_is_refused_and_nothing_is_left(
    lab: Lab, words: tuple[str, ...], code: int, saying: tuple[str, ...]
) -> None:
    n1 = lab.node("n1")
    before = await call(n1, "get", "/nodes/n1/qemu/100/config")
    await refused(n1, code, *words, saying=saying)
    assert await call(n1, "get", "/nodes/n1/qemu/100/config") == before
    guests = [row["vmid"] for row in await call(n1, "get", "/cluster/resources") if "vmid" in row]
    assert guests == [100]
    assert await traces(lab, 200) == []
    assert (await n1.succeed("find", SMALL, "-type", "f")) == ""
    assert sorted(row["storage"] for row in await call(n1, "get", "/storage")) == ["local", "shared", "small"]
