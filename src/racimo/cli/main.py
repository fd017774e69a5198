"""The entry of ``racimo``: puts the commands together and turns every end into an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from racimo.cli.commands import (
    access,
    access_grants,
    access_login,
    backup,
    cluster,
    console,
    datacenter,
    guest,
    guest_disk,
    guest_inside,
    guest_snapshot,
    ha,
    ha_control,
    ha_fence,
    ha_profile,
    ha_rule,
    migrate,
    node,
    node_machine,
    notification,
    notification_matcher,
    pool,
    raw,
    serial,
    status,
    storage,
    storage_content,
    task,
)
from racimo.cli.exits import ExitCode, exit_code
from racimo.cli.plugins import add_plugins
from racimo.cli.run import tell_error
from racimo.cli.session import SOCKET_VARIABLE
from racimo.errors import BadRequest, RacimoError

__all__ = ["build", "main"]

GROUPS = (cluster, node, guest, storage, backup, ha, task, notification, access, pool)
ADDED = (
    migrate,
    guest_snapshot,
    guest_disk,
    guest_inside,
    serial,
    console,
    ha_rule,
    ha_profile,
    ha_control,
    notification_matcher,
    access_grants,
    access_login,
    node_machine,
    storage_content,
)
"""Files whose commands stand in the group of another."""

_EPILOG = "Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in ExitCode) + "."


def build(named: str = "") -> typer.Typer:
    """The whole command line. ``named`` is the command that was typed: if a plug-in brings it, that is loaded."""
    app = typer.Typer(
        name="racimo", no_args_is_help=True, rich_markup_mode="rich", epilog=_EPILOG, pretty_exceptions_enable=False
    )
    app.callback(help=_root.__doc__)(_root)
    datacenter.register(app)
    status.register(app)
    ha.app.add_typer(ha_fence.app)
    for module in GROUPS:
        app.add_typer(module.app)
    raw.register(app)
    add_plugins(app, named)
    return app


def _root(
    socket: Annotated[
        Path | None,
        typer.Option(
            "--socket",
            metavar="PATH",
            envvar=SOCKET_VARIABLE,
            help="The socket of the node to ask.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print Racimo's version and end.", is_eager=True)] = False,
) -> None:
    """Run plain Debian servers as one highly available virtualisation datacenter.

    The command asks the node of this machine; any node can be asked about the whole datacenter.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run ``racimo`` with ``arguments`` (those of the process by default); returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if "--version" in words[:1]:
        return _version()
    completing = os.environ.get("_TYPER_COMPLETE_ARGS", "").split()[1:]
    try:
        code = build(_first_word(completing or words))(args=words, prog_name="racimo", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error, json_output="--json" in words)
    except (typer.Abort, KeyboardInterrupt):
        print("\nCancelled.", file=sys.stderr)  # noqa: T201
        return ExitCode.CANCELLED
    except RacimoError as error:
        tell_error(error, json_output="--json" in words)
        return exit_code(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    return code if isinstance(code, int) else ExitCode.OK


def _first_word(words: list[str]) -> str:
    """The command among the words: the first that is neither an option nor the value of one."""
    rest = iter(words)
    for word in rest:
        if word == "--socket":
            next(rest, "")
        elif not word.startswith("-"):
            return word
    return ""


def _usage(error: typer.TyperException, *, json_output: bool) -> int:
    message = error.format_message()
    if not message:  # a group without a command: its help was printed
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    path = str(getattr(context, "command_path", "racimo"))
    told = BadRequest(message, why=_used_as(context, path), todo=f"{path} --help")
    tell_error(told, json_output=json_output)
    return ExitCode.USAGE


def _used_as(context: object, path: str) -> str:
    """The form of the command, from its parameters."""
    collect = getattr(getattr(context, "command", None), "collect_usage_pieces", None)
    return f"the form is {path} {' '.join(collect(context))}" if callable(collect) else ""


def _version() -> int:
    from importlib.metadata import version

    print(version("racimo"))  # noqa: T201
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
