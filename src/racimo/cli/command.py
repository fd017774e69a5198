"""How a command is made: a coroutine over a ``Session`` that hands back a ``View``.

``command`` adds what all commands share: ``--json``, ``--no-wait`` for tasks, help that teaches, errors in three lines,
exit codes. So a command's own code only asks the API and says what to show.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

import typer

from racimo.cli.run import Invocation, run
from racimo.cli.session import default_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from _typeshed import DataclassInstance

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
    A parameter that is a dataclass stands for its fields: options that several commands have in common.
    """

    def register(work: Callable[Concatenate[Session, P], R]) -> Callable[Concatenate[Session, P], R]:
        signature = inspect.signature(work, eval_str=True)
        own = list(signature.parameters.values())[1:]
        groups = _groups(own)
        added = [_parameter("context", typer.Context), *_spread(own, groups)]
        added.append(_parameter("json_output", _JSON, default=False))
        if task:
            added.append(_parameter("no_wait", _NO_WAIT, default=False))

        def invoke(**given: object) -> None:
            context = cast("typer.Context", given.pop("context"))
            socket: Path | None = context.find_root().params.get("socket")
            path = context.command_path
            json_output, no_wait = bool(given.pop("json_output")), bool(given.pop("no_wait", False))
            invocation = Invocation(path, socket or default_socket(), json_output, no_wait, begins_task=task)
            raise typer.Exit(run(invocation, _bind(work, _gathered(given, groups))))

        named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in added]
        invoke.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined] # typer reads it
        invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
        text = inspect.getdoc(work) or ""
        app.command(name, help=_teach(text, example, then), short_help=text.split("\n\n")[0])(invoke)
        return work

    return register


def _bind(work: Callable[..., Result], given: dict[str, object]) -> Work:
    return lambda session: work(session, **given)


def _groups(own: Sequence[inspect.Parameter]) -> dict[str, type[DataclassInstance]]:
    """The parameters that are dataclasses."""
    kinds = {parameter.name: parameter.annotation for parameter in own}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and is_dataclass(kind)}


def _spread(
    own: Sequence[inspect.Parameter], groups: Mapping[str, type[DataclassInstance]]
) -> Iterator[inspect.Parameter]:
    """The parameters as typer gets them: the fields of a dataclass in its place."""
    for parameter in own:
        if parameter.name not in groups:
            yield parameter
            continue
        kind = groups[parameter.name]
        hints = get_type_hints(kind, include_extras=True)
        for each in fields(kind):
            yield inspect.Parameter(
                each.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name], default=each.default
            )


def _gathered(given: dict[str, object], groups: Mapping[str, type[DataclassInstance]]) -> dict[str, object]:
    """The arguments as the command takes them: what was given for fields of a dataclass in one."""
    made = {name: kind(**{each.name: given.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()}
    return given | made


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
