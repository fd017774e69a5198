"""Commands that other parts bring along, by the entry point group ``racimo.commands`` (such as ``racimo lab``).

Their module is imported only when the command line names them, so that ``racimo --help`` stays quick.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import typer

from racimo.cli.command import group
from racimo.errors import OperationFailed

GROUP = "racimo.commands"
_TEXTS = {
    "lab": "A whole datacenter on this one machine, to try everything and break it.",
    "simulate": "HA's decisions on a simulated datacenter, with faults.",
}


def add_plugins(app: typer.Typer, named: str) -> None:
    """Add every plug-in to ``app``: whole if it is ``named``, else as a line of the help."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        text = _TEXTS.get(entry.name, f"Commands of {entry.module}.")
        brought = _loaded(entry) if entry.name == named else _stub(entry.name, text)
        app.add_typer(brought, name=entry.name, help=text)


def _loaded(entry: EntryPoint) -> typer.Typer:
    try:
        brought = entry.load()
    except ImportError as error:
        raise OperationFailed(
            f"racimo {entry.name} cannot be loaded", why=str(error), todo="Install Racimo anew, with all that it needs"
        ) from error
    if not isinstance(brought, typer.Typer):
        raise OperationFailed(f"racimo {entry.name} cannot be loaded", why=f"{entry.value} is no group of commands")
    return brought


def _stub(name: str, text: str) -> typer.Typer:
    stub = group(name, text)
    stub.callback()(lambda: None)
    return stub
