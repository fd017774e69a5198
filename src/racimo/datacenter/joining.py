"""A join that was begun: ``joining.json``. What is in it decides how a join is finished after a crash."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from racimo.datacenter.atomic_file import PRIVATE, remove_file, replace_file
from racimo.datacenter.join_message import JoinGrant  # noqa: TC001 - pydantic needs it
from racimo.errors import Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.datacenter.join_client import JoinClient
    from racimo.datacenter.join_message import JoinRequest
    from racimo.model.paths import NodePaths
    from racimo.task.operation import Report

COMMIT_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """``token`` is the digest of the join text's secret. Without ``grant`` it is not known whether the node is in."""

    token: str
    address: str
    node_id: str
    grant: JoinGrant | None = None


_ADAPTER = TypeAdapter(Joining)


def joining_file(paths: NodePaths) -> Path:
    """Where a join that was begun is remembered."""
    return paths.etc / "joining.json"


def find_joining(paths: NodePaths) -> Joining | None:
    """The join that was begun here and is not finished."""
    path = joining_file(paths)
    return _ADAPTER.validate_json(path.read_bytes()) if path.exists() else None


def write_joining(paths: NodePaths, joining: Joining) -> None:
    """Remember it, in one step."""
    replace_file(joining_file(paths), _ADAPTER.dump_json(joining), PRIVATE)


async def obtain_grant(
    paths: NodePaths, joining: Joining, client: JoinClient, request: JoinRequest, report: Report
) -> JoinGrant:
    """Ask to be let in. ``joining`` is remembered before, and for good unless it is sure that the node is not in.

    Raises what the member refused with; ``Unreachable`` with ``may_have_acted`` when that is not known.
    """
    write_joining(paths, joining)
    try:
        return await _commit(client, request, report)
    except BaseException as error:
        if not unsure(error):
            remove_file(joining_file(paths))
        raise


def unsure(error: BaseException) -> bool:
    """Whether the node may be in all the same."""
    return isinstance(error, asyncio.CancelledError) or (isinstance(error, Unreachable) and error.may_have_acted)


async def _commit(client: JoinClient, request: JoinRequest, report: Report) -> JoinGrant:
    """Ask until the answer comes: the same request has the same effect. A few times, so that it ends."""
    lost: Unreachable | None = None
    for _ in range(COMMIT_ATTEMPTS):
        try:
            return await client.commit(request)
        except Unreachable as error:
            report.log(f"Asking again: {error}")
            lost = lost if lost is not None and lost.may_have_acted else error
    assert lost is not None  # noqa: S101 - the loop ran
    raise lost
