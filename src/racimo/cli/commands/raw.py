"""``racimo api``: any path of the API, as it is."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import Json
from racimo.cli.command import command
from racimo.cli.parameters import assignments
from racimo.cli.session import Session
from racimo.cli.view import Raw
from racimo.errors import BadParameter

METHODS = ("get", "post", "put", "delete")


def register(app: typer.Typer) -> None:
    """Add the command to the top of ``app``."""
    command(
        app, "api",
        example="racimo api get /cluster/resources type=vm\nracimo api post /nodes/n1/qemu/100/status/start",
        then="docs/reference/cli.md, and docs/architecture.md for the paths",
    )(api)  # fmt: skip


async def api(
    session: Session,
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="get, post, put or delete.", autocompletion=lambda: list(METHODS))
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Below /api2/json, such as /nodes.")],
    values: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Parameters.")] = None,
) -> Raw:
    """Call any path of the API and print its answer as JSON."""
    if method.lower() not in METHODS:
        raise BadParameter({"METHOD": f"{method!r} is none of {', '.join(METHODS)}"})
    path = "/" + path.removeprefix("/api2/json").lstrip("/")
    parameters: dict[str, Json] = dict(assignments(values or []))
    calls = {
        "get": session.client.get, "post": session.client.post,
        "put": session.client.put, "delete": session.client.delete,
    }  # fmt: skip
    return Raw(await calls[method.lower()](path, parameters))
