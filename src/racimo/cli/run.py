"""Carries one command out: connects, waits for its task, prints the result, turns errors into exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from racimo.cli.exits import ExitCode, error_document, error_lines, exit_code
from racimo.cli.interrupts import Interrupts
from racimo.cli.session import Session, is_upid
from racimo.cli.view import Done, View
from racimo.errors import BadRequest, Cancelled, RacimoError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from rich.console import Console

    from racimo.cli.answer import Json

WIDE = 500
"""Columns of a line when nobody looks at a terminal: nothing is cut for a pipe."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a command hands back that had a task started. ``answer`` is the UPID, or the result if it is done already.

    ``done`` and ``then`` are told when the task has ended well.
    """

    answer: Json
    done: str
    then: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a stream: for people, and for ``--json``."""

    text: str
    value: Json


Result: TypeAlias = "Awaitable[View | Started] | AsyncIterator[Item]"
"""What a command's own code hands back: what to show, a task that was begun, or a stream."""
Work: TypeAlias = "Callable[[Session], Result]"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of ``racimo``: the command's name, the node to ask, and how to tell the result."""

    name: str
    socket: Path
    json_output: bool = False
    no_wait: bool = False
    begins_task: bool = False


def run(invocation: Invocation, work: Work) -> int:
    """Carry ``work`` out; returns the exit code. Never raises ``RacimoError``."""
    try:
        return asyncio.run(_perform(invocation, work))
    except RacimoError as error:
        if isinstance(error, BadRequest) and not error.todo:
            error.todo = f"See what it takes: {invocation.name} --help"
        tell_error(error, json_output=invocation.json_output)
        return exit_code(error)
    except asyncio.CancelledError:
        why, todo = "the node had not answered yet, so it may or may not have begun", "racimo task list"
        lost = Cancelled(f"{invocation.name} was broken off", why=why, todo=todo)
        tell_error(lost, json_output=invocation.json_output)
        return exit_code(lost)


def tell_error(error: RacimoError, *, json_output: bool) -> None:
    """Three lines on standard error; with ``json_output`` also a document on standard output."""
    print("\n".join(error_lines(error)), file=sys.stderr, flush=True)  # noqa: T201
    if json_output:
        print_json(error_document(error))


def print_json(value: object) -> None:
    """One document on one line, so that a stream of them is NDJSON."""
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201


def console(*, errors: bool = False) -> Console:
    """Where people read: standard output, or standard error for what is not the result."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE)


def connect(socket: Path) -> AbstractAsyncContextManager[Session]:
    """A session with the node behind ``socket``; connects at its first request."""
    from racimo.cli.connection import connected

    return connected(socket)


async def _perform(invocation: Invocation, work: Work) -> int:
    async with connect(invocation.socket) as session:
        if invocation.begins_task:
            return await _begin(invocation, session, work)
        result = work(session)
        if isinstance(result, AsyncIterator):
            await _stream(result, json_output=invocation.json_output)
            return ExitCode.OK
        _show(invocation, _view(await result))
    return ExitCode.OK


async def _begin(invocation: Invocation, session: Session, work: Work) -> int:
    interrupts = Interrupts()
    with interrupts.caught():
        result = work(session)
        started = await result if not isinstance(result, AsyncIterator) else None
        if isinstance(started, Started):
            return await _finish(invocation, session, started, interrupts)
    raise TypeError(f"{invocation.name} is to begin a task, but handed back {started!r}")


def _view(result: View | Started) -> View:
    if isinstance(result, Started):
        raise TypeError("a command that begins a task is to be registered with task=True")
    return result


async def _stream(items: AsyncIterator[Item], *, json_output: bool) -> None:
    async for item in items:
        if json_output:
            print_json(item.value)
        else:
            print(item.text, flush=True)  # noqa: T201


async def _finish(invocation: Invocation, session: Session, started: Started, interrupts: Interrupts) -> int:
    upid = started.answer
    if not isinstance(upid, str) or not is_upid(upid):
        _show(invocation, Done(started.done, upid, started.then))
        return ExitCode.OK
    if invocation.no_wait:
        _show(invocation, Done(upid, {"upid": upid, "status": "running"}))
        return ExitCode.OK
    from racimo.cli.follow import Detached, Follower

    try:
        end = await Follower(session, upid, console(errors=True), interrupts).wait()
    except Detached:
        if invocation.json_output:
            print_json({"upid": upid, "status": "running", "detached": True})
        return ExitCode.CANCELLED
    except RacimoError as error:
        if not isinstance(error, BadRequest):
            error.todo = error.todo or f"racimo task log {upid}"
        raise
    document: Json = {"upid": upid, "status": end.status, "exitstatus": end.exitstatus}
    _show(invocation, Done(_with_warnings(started.done, end.exitstatus), document, started.then))
    return ExitCode.OK


def _with_warnings(done: str, exitstatus: str) -> str:
    return done if exitstatus == "OK" else f"{done} ({exitstatus})"


def _show(invocation: Invocation, view: View) -> None:
    if invocation.json_output:
        print_json(view.document())
    else:
        view.show(console())
