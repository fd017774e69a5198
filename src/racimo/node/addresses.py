"""This machine's own addresses."""

from __future__ import annotations

import asyncio
import json

from racimo.errors import BadParameter, OperationFailed


async def default_address() -> str:
    """The machine's only global IPv4 address. Raises ``BadParameter`` when there are several, or none."""
    process = await asyncio.create_subprocess_exec(
        "ip", "-j", "-4", "address", "show", "scope", "global", "up", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise OperationFailed(
            "The machine's addresses could not be read", why=f"'ip address' ended with {process.returncode}"
        )
    found = [entry["local"] for link in json.loads(output) for entry in link.get("addr_info", [])]
    if len(found) != 1:
        raise BadParameter(
            {"address": f"this machine has {', '.join(found) or 'no address'}"}, todo="Say which one: --address ADDRESS"
        )
    return str(found[0])
