"""How a command is made: a coroutine over a ``Session`` that hands back a ``View``.

``command`` adds what all commands share: ``--json``, ``--no-wait`` for tasks, help that teaches, errors in three lines,
exit codes. So a command's own code only asks the API and says what to show.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypeVar, cast

import typer

from racimo.cli.run import Invocation, run
from racimo.cli.session import default_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from racimo.cli.run import Result, Work
    from racimo.cli.session import Session

P = ParamSpec("P")
R = TypeVar("R", bound="Result")

_JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_NO_WAIT = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the task: print its UPID and end.")]


def group(name: str, text: str) -> typer.Typer:
    """A group of commands, such as ``racimo guest``."""
    return typer.Typer(name=name, help=text, no_args_is_help=True, rich_markup_mode="rich", add_completion=False)


def command(
    app: typer.Typer, name: str, *, example: str, then: str = "", task: bool = False
) -> Callable[[Callable[Concatenate[Session, P], R]], Callable[Concatenate[Session, P], R]]:
    """Register a coroutine (or, for streams, an async generator) as ``name`` of ``app``.

    Its docstring is the help; ``example`` and ``then`` (what to do next) stand below it. ``task`` adds ``--no-wait``.
    """

    def register(work: Callable[Concatenate[Session, P], R]) -> Callable[Concatenate[Session, P], R]:
        signature = inspect.signature(work, eval_str=True)
        own = list(signature.parameters.values())[1:]
        added = [_parameter("context", typer.Context), *own, _parameter("json_output", _JSON, default=False)]
        if task:
            added.append(_parameter("no_wait", _NO_WAIT, default=False))

        def invoke(**given: object) -> None:
            context = cast("typer.Context", given.pop("context"))
            socket: Path | None = context.find_root().params.get("socket")
            path = context.command_path
            json_output, no_wait = bool(given.pop("json_output")), bool(given.pop("no_wait", False))
            invocation = Invocation(path, socket or default_socket(), json_output, no_wait, begins_task=task)
            raise typer.Exit(run(invocation, _bind(work, given)))

        named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in added]
        invoke.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined] # typer reads it
        invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
        text = inspect.getdoc(work) or ""
        app.command(name, help=_teach(text, example, then), short_help=text.split("\n\n")[0])(invoke)
        return work

    return register


def _bind(work: Callable[..., Result], given: dict[str, object]) -> Work:
    return lambda session: work(session, **given)


def _parameter(name: str, annotation: object, **default: bool) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    if default:
        return inspect.Parameter(name, kind, annotation=annotation, default=default["default"])
    return inspect.Parameter(name, kind, annotation=annotation)


def _teach(text: str, example: str, then: str) -> str:
    paragraphs = [text, *(f"[dim]Example:[/dim]  {_literal(line)}" for line in example.splitlines())]
    if then:
        paragraphs.append(f"[dim]Next:[/dim]  {_literal(then)}")
    return "\n\n".join(paragraphs)


def _literal(text: str) -> str:
    return text.replace("[", "\\[")
