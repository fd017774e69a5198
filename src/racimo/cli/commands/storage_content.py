"""``racimo storage upload``, ``download`` and ``delete``: files in a storage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from racimo.cli.command import command
from racimo.cli.commands import storage as storages
from racimo.cli.parameters import OnNode, StorageId
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.errors import BadParameter

UPLOAD_TIMEOUT = 6 * 3600.0
"""Seconds that a file may take."""

Kind = Annotated[str, typer.Option("--content", metavar="KIND", help="iso, import (disk images) or vztmpl.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name there; else the file's own.")]
Checksum = Annotated[
    str | None, typer.Option("--checksum", metavar="ALGORITHM:SUM", help="What it must be, such as sha256:0a1b…")
]


@command(
    storages.app, "upload", task=True,
    example="racimo storage upload local debian-13.iso\n"
    "racimo storage upload local server.qcow2 --content import --node n2",
    then="racimo storage content local",
)  # fmt: skip
async def upload(
    session: Session,
    storage: StorageId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of this machine.")],
    kind: Kind = "iso",
    name: Name = None,
    checksum: Checksum = None,
    node: OnNode = None,
) -> Started:
    """Send a file to a storage. It has its name there once it is whole and its sum is right."""
    node, called = node or await session.local_node(), name or file.name
    fields = {"content": kind, **_sum(checksum)}
    try:
        opened = await asyncio.to_thread(file.open, "rb")
    except OSError as error:
        raise BadParameter({"FILE": str(error)}) from error
    with opened:
        path = f"/nodes/{part(node)}/storage/{part(storage)}/upload"
        answer = await session.client.upload(path, fields, opened, name=called, timeout=UPLOAD_TIMEOUT)
    return Started(answer, f"{storage}:{kind}/{called} is there.", f"racimo storage content {storage}")


@command(
    storages.app, "download", task=True,
    example="racimo storage download local https://cdimage.example.org/debian-13.iso --checksum sha256:0a1b…",
    then="racimo storage content local",
)  # fmt: skip
async def download(
    session: Session,
    storage: StorageId,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it is: https://…")],
    kind: Kind = "iso",
    name: Name = None,
    checksum: Checksum = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not ask the server to prove who it is.")] = False,
    node: OnNode = None,
) -> Started:
    """Have a node fetch a file from a web server into a storage. A file that is there is not overwritten."""
    node, called = node or await session.local_node(), name or url.partition("?")[0].rpartition("/")[2]
    answer = await session.post(
        f"/nodes/{part(node)}/storage/{part(storage)}/download-url", url=url, content=kind, filename=called,
        **_sum(checksum), **({"verify-certificates": 0} if insecure else {}),
    )  # fmt: skip
    return Started(answer, f"{storage}:{kind}/{called} is there.", f"racimo storage content {storage}")


@command(
    storages.app, "delete", task=True, example="racimo storage delete local:iso/debian-13.iso",
    then="racimo storage content local",
)  # fmt: skip
async def delete(
    session: Session,
    volume: Annotated[str, typer.Argument(metavar="VOLUME", help="As racimo storage content shows it.")],
    node: OnNode = None,
) -> Started:
    """Remove a volume for good. A guest's disk is refused: it is unlinked from the guest."""
    node, storage = node or await session.local_node(), volume.partition(":")[0]
    answer = await session.delete(f"/nodes/{part(node)}/storage/{part(storage)}/content/{part(volume)}")
    return Started(answer, f"{volume} is gone.", f"racimo storage content {storage}")


def _sum(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    algorithm, sign, value = text.partition(":")
    if not sign:
        raise BadParameter({"--checksum": "is not of the form ALGORITHM:SUM"}, todo="Such as sha256:0a1b…")
    return {"checksum": value, "checksum-algorithm": algorithm}
