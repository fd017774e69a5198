"""The table of endpoints: one row per method and path, with everything that there is to know about it.

A routes file makes one ``Routes`` and declares its rows with it; ``Table`` joins them, refuses doubles, and finds the
row for a request. OpenAPI, the permission tests and forwarding read the same rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from racimo.api.parameters import Parameters
from racimo.errors import NotImplementedHere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from racimo.api.context import Context

P = TypeVar("P", bound=Parameters)
Result = object
"""What a handler returns: JSON values, frozen dataclasses, UPIDs, enums, and lists and dicts of them."""

METHODS = ("GET", "POST", "PUT", "DELETE")
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(\*?)\}")


class Answers(StrEnum):
    """Which node answers."""

    NODE = "node"
    """The one named by ``{node}`` in the path; any other forwards."""
    ANY = "any"
    """Whichever is asked."""


class Access(StrEnum):
    """Who is let in at all, before privileges are looked at."""

    NOBODY = "nobody"
    """No login is needed; the handler checks what it must (a join token)."""
    USER = "user"
    """Anybody who is logged in; no privilege."""
    PRIVILEGE = "privilege"
    NODES = "nodes"
    """Only the datacenter's nodes, by certificate, and root of this one: never a user."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What it takes: any of ``privileges`` on ``path``, a template over the parameters such as ``/vms/{vmid}``.

    A parameter with several values demands it for each, one without a value for the path above. The value of
    ``{path*}`` may hold slashes.
    """

    access: Access
    privileges: tuple[str, ...] = ()
    path: str = ""
    own: str = ""
    """A parameter that names a user or a task: for themselves and their own tasks users need no privilege."""
    group_of: str = ""
    """A parameter that names a user: the privilege on one of that user's groups is enough."""
    also: tuple[Permission, ...] = ()
    """What it takes besides; not for one's own."""
    people: bool = False
    """Not for tokens, whatever they may."""

    def __str__(self) -> str:
        text = f"{self.path}, {'|'.join(self.privileges)}" if self.privileges else str(self.access)
        text += f"; or one's own {self.own}" if self.own else ""
        text += f"; or a group of {self.group_of}" if self.group_of else ""
        return " and ".join([text, *map(str, self.also)]) + ("; no tokens" if self.people else "")


ANYBODY = Permission(Access.NOBODY)
LOGGED_IN = Permission(Access.USER)
NODES = Permission(Access.NODES)


def privilege(path: str, *privileges: str, own: str = "") -> Permission:
    """Any of ``privileges`` on ``path``, such as ``privilege("/vms/{vmid}", "VM.Audit")``."""
    return Permission(Access.PRIVILEGE, privileges, path, own=own)


def over_user(parameter: str, *privileges: str, own: bool = False) -> Permission:
    """Any of ``privileges`` over the user that ``parameter`` names: on ``/access/groups``, or on one of its groups."""
    return Permission(Access.PRIVILEGE, privileges, "/access/groups", own=parameter if own else "", group_of=parameter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row. ``path`` holds placeholders: ``{vmid}`` one segment, ``{volume*}`` all the rest, slashes included.

    ``task`` says that the result is a UPID. ``timeout`` is in seconds: how long the handler may take.
    """

    method: str
    path: str
    parameters: type[Parameters]
    permission: Permission
    answers: Answers
    handler: Callable[[Context, Any], Awaitable[Result]]
    summary: str
    result: object = None
    task: bool = False
    timeout: float = 60.0
    upload: bool = False
    """Its body may be a form with a file, which the handler reads from ``Context.upload`` as it comes."""

    def __post_init__(self) -> None:
        names = {name for name, _ in _PLACEHOLDER.findall(self.path)}
        missing = names - self.parameters.names()
        if self.method not in METHODS or not self.path.startswith("/") or missing:
            raise ValueError(
                f"{self.method} {self.path}: the parameters lack {sorted(missing)}, or the row is malformed"
            )
        if self.answers is Answers.NODE and "node" not in names:
            raise ValueError(f"{self.method} {self.path}: answered by a node that its path does not name")

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments; placeholders as they are written."""
        return tuple(self.path.strip("/").split("/"))


class Routes:
    """The rows of one family of paths, declared with decorators: ``@routes.get("/version", …)``."""

    def __init__(self) -> None:
        self.rows: list[Endpoint] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        permission: Permission,
        answers: Answers = Answers.ANY,
        parameters: type[P] = Parameters,  # type: ignore[assignment] # a default cannot bind P; overloads say it twice
        summary: str,
        result: object = None,
        task: bool = False,
        timeout: float = 60.0,
        upload: bool = False,
    ) -> Callable[[Callable[[Context, P], Awaitable[Result]]], Callable[[Context, P], Awaitable[Result]]]:
        """Declare the handler below as the row ``method`` ``path``. See ``Endpoint``."""

        def declare(
            handler: Callable[[Context, P], Awaitable[Result]],
        ) -> Callable[[Context, P], Awaitable[Result]]:
            self.rows.append(
                Endpoint(
                    method=method, path=path, parameters=parameters, permission=permission, answers=answers,
                    handler=handler, summary=summary, result=result, task=task, timeout=timeout,
                    upload=upload,
                )
            )  # fmt: skip
            return handler

        return declare


@dataclass(frozen=True, slots=True)
class Match:
    """A row found for a request, with the path's parameters, unescaped."""

    endpoint: Endpoint
    parameters: dict[str, str]


@dataclass(slots=True)
class _Branch:
    """A step in the tree of paths: literal segments go before placeholders, those before the rest of a path."""

    literal: dict[str, _Branch] = field(default_factory=dict)
    placeholder: _Branch | None = None
    rest: dict[str, Endpoint] = field(default_factory=dict)
    here: dict[str, Endpoint] = field(default_factory=dict)

    def find(self, segments: tuple[str, ...], method: str) -> Iterator[Endpoint | None]:
        """Rows for the segments, best first; None for a path that has no such method."""
        if not segments:
            if self.here:
                yield self.here.get(method)
            return
        branch = self.literal.get(unquote(segments[0]))
        for next_branch in (branch, self.placeholder):
            if next_branch is not None:
                yield from next_branch.find(segments[1:], method)
        if self.rest:
            yield self.rest.get(method)


class Table:
    """All rows. Raises ``ValueError`` when two rows have the same method and path."""

    def __init__(self, *families: Routes) -> None:
        self._root = _Branch()
        self.rows: tuple[Endpoint, ...] = tuple(row for family in families for row in family.rows)
        for row in self.rows:
            self._insert(row)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.rows)

    def match(self, method: str, path: str) -> Match:
        """The row for ``path`` as it was sent, below the prefix, still escaped. Raises ``NotImplementedHere``."""
        segments = tuple(segment for segment in path.split("/") if segment)
        known = False
        for row in self._root.find(segments, method):
            known = True
            if row is not None:
                return Match(row, _bound(row.segments, segments))
        if known:
            raise NotImplementedHere(f"Method '{method} {unquote(path)}' not implemented", why=self._others(segments))
        raise NotImplementedHere(
            f"Method '{method} {unquote(path)}' not implemented", why="this version of Racimo has no such path"
        )

    def _others(self, segments: tuple[str, ...]) -> str:
        methods = [method for method in METHODS if any(self._root.find(segments, method))]
        return f"this path knows {', '.join(methods)}"

    def _insert(self, row: Endpoint) -> None:
        branch = self._root
        *steps, last = row.segments
        for step in (*steps, last):
            placeholder = _PLACEHOLDER.fullmatch(step)
            if placeholder is None:
                branch = branch.literal.setdefault(step, _Branch())
            elif placeholder[2]:
                break
            else:
                branch.placeholder = branch = branch.placeholder or _Branch()
        leaf = branch.rest if last.endswith("*}") else branch.here
        if row.method in leaf:
            raise ValueError(f"Two rows for {row.method} {row.path} (the other: {leaf[row.method].path})")
        leaf[row.method] = row


def _bound(pattern: Iterable[str], segments: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for n, step in enumerate(pattern):
        placeholder = _PLACEHOLDER.fullmatch(step)
        if placeholder is not None:
            values[placeholder[1]] = unquote("/".join(segments[n:]) if placeholder[2] else segments[n])
    return values
