"""A guest's agent: what it tells of the inside of the guest, and what it does there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.routes.guests import OfGuest, of_node
from racimo.errors import BadParameter
from racimo.guest.agent_commands import ACTIONS, FREEZE_TIMEOUT, READS, Agent, decoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import JsonValue

    from racimo.api.context import Context

AUDIT = privilege("/vms/{vmid}", "VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted")
ACT = privilege("/vms/{vmid}", "VM.GuestAgent.Unrestricted")
DO = {
    **dict.fromkeys(("fsfreeze-freeze", "fsfreeze-status", "fsfreeze-thaw", "fstrim"), "VM.GuestAgent.FileSystemMgmt"),
    **dict.fromkeys(("shutdown", "suspend-disk", "suspend-ram"), "VM.PowerMgmt"),
}
"""The privilege that is enough for each action, beside ``VM.GuestAgent.Unrestricted``."""
READ = privilege("/vms/{vmid}", "VM.GuestAgent.FileRead", "VM.GuestAgent.Unrestricted")
WRITE = privilege("/vms/{vmid}", "VM.GuestAgent.FileWrite", "VM.GuestAgent.Unrestricted")
MAX_CONTENT = 60 * 1024
BASE = "/nodes/{node}/qemu/{vmid}/agent"

routes = Routes()


class AnyCommand(OfGuest):
    """One command by name."""

    command: Annotated[
        Literal["ping", *READS, *ACTIONS],  # type: ignore[valid-type]
        Field(description="The agent's command, without guest-."),
    ]


class Run(OfGuest):
    """A program to start."""

    whole: ClassVar[frozenset[str]] = frozenset({"command"})
    command: Annotated[tuple[str, ...], Field(min_length=1, description="Program and arguments, one entry each.")]
    input_data: Annotated[
        str | None, Field(alias="input-data", max_length=MAX_CONTENT, description="Its standard input.")
    ] = None


class OfProcess(OfGuest):
    """A program that was started."""

    pid: Annotated[int, Field(ge=1, description="Its process id.")]


class OfFile(OfGuest):
    """A file of the guest."""

    file: Annotated[str, Field(min_length=1, description="Its path.")]


class Write(OfFile):
    """What to write."""

    content: Annotated[str, Field(max_length=MAX_CONTENT, description="What it is to hold.")]
    encode: Annotated[bool, Field(description="0: the content is base64 already.")] = True


class NewPassword(OfGuest):
    """A password for an account of the guest."""

    username: Annotated[str, Field(min_length=1, description="The account.")]
    password: Annotated[str, Field(min_length=5, max_length=1024, description="The new password.")]
    crypted: Annotated[bool, Field(description="It is a hash of crypt(5).")] = False


def _agent(context: Context, parameters: OfGuest) -> Agent:
    of_node(context, parameters)
    return Agent(context.services.paths, parameters.vmid)


def _plain(name: str) -> Callable[[Context, OfGuest], Awaitable[dict[str, JsonValue]]]:
    async def ask(context: Context, parameters: OfGuest) -> dict[str, JsonValue]:
        return await _ask(context, parameters, name)

    return ask


async def _ask(context: Context, parameters: OfGuest, name: str) -> dict[str, JsonValue]:
    agent = _agent(context, parameters)
    if name in {"fsfreeze-freeze", "fstrim"}:
        return {"result": await agent.command(name, timeout=FREEZE_TIMEOUT)}
    return {"result": await agent.command(name)}


for _name in READS:
    routes.add(
        "GET", f"{BASE}/{_name}", permission=AUDIT, answers=Answers.NODE, parameters=OfGuest,
        summary=f"What the guest's agent answers to {_name}",
    )(_plain(_name))  # fmt: skip
for _name in ACTIONS:
    routes.add(
        "POST", f"{BASE}/{_name}", permission=ACT, answers=Answers.NODE, parameters=OfGuest, timeout=FREEZE_TIMEOUT + 5,
        summary=f"Have the guest's agent do {_name}",
    )(_plain(_name))  # fmt: skip


@routes.add(
    "POST", BASE, permission=ACT, answers=Answers.NODE, parameters=AnyCommand, timeout=FREEZE_TIMEOUT + 5,
    summary="Have the guest's agent do one of the commands without arguments",
)  # fmt: skip
async def any_command(context: Context, parameters: AnyCommand) -> dict[str, JsonValue]:
    """The command's name stands in the body."""
    return await _ask(context, parameters, parameters.command)


@routes.add(
    "POST", f"{BASE}/exec", permission=ACT, answers=Answers.NODE, parameters=Run, summary="Start a program in the guest"
)
async def run_program(context: Context, parameters: Run) -> dict[str, JsonValue]:
    """Its end is asked for with exec-status."""
    given = parameters.input_data.encode() if parameters.input_data is not None else None
    return {"pid": await _agent(context, parameters).run(parameters.command, given)}


@routes.add(
    "GET", f"{BASE}/exec-status", permission=ACT, answers=Answers.NODE, parameters=OfProcess,
    summary="How a program stands that was started in the guest",
)  # fmt: skip
async def program_status(context: Context, parameters: OfProcess) -> dict[str, JsonValue]:
    """Its output once it has ended; the agent tells an end once."""
    return await _agent(context, parameters).outcome(parameters.pid)


@routes.add(
    "GET",
    f"{BASE}/file-read",
    permission=READ,
    answers=Answers.NODE,
    parameters=OfFile,
    summary="Read a file of the guest",
)
async def read_file(context: Context, parameters: OfFile) -> dict[str, JsonValue]:
    """At most 16 MiB of it."""
    content, cut = await _agent(context, parameters).read(parameters.file)
    return {
        "content": content.decode(errors="replace"),
        "bytes-read": len(content),
        **({"truncated": 1} if cut else {}),
    }


@routes.add(
    "POST", f"{BASE}/file-write", permission=WRITE, answers=Answers.NODE, parameters=Write,
    summary="Write a file of the guest",
)  # fmt: skip
async def write_file(context: Context, parameters: Write) -> None:
    """Replaces what it held."""
    content = parameters.content.encode() if parameters.encode else decoded(parameters.content, name="content")
    await _agent(context, parameters).write(parameters.file, content)


@routes.add(
    "POST", f"{BASE}/set-user-password", permission=ACT, answers=Answers.NODE, parameters=NewPassword,
    summary="Set the password of an account of the guest",
)  # fmt: skip
async def set_password(context: Context, parameters: NewPassword) -> dict[str, JsonValue]:
    """Through the guest's agent: the account must exist."""
    if "\n" in parameters.password or ":" in parameters.username:
        raise BadParameter({"password": "must be one line, and the user's name have no colon"})
    agent = _agent(context, parameters)
    return {"result": await agent.set_password(parameters.username, parameters.password, hashed=parameters.crypted)}
