#!/usr/bin/python3 -IS
"""fence_racimo_lab: a fence agent for nodes of the lab. It asks the lab's supervisor, outside, to switch a node.

Standard library only: it is put into each node's /usr/sbin as it is, and speaks the fence agents' interface (options as
``name=value`` lines on standard input, exit code 2 and "Status: OFF" for a node without power).
"""

from __future__ import annotations

import json
import socket
import sys

SOCKET = "/run/racimo-lab/fence"
ACTIONS = ("off", "on", "status", "monitor", "metadata")
PASSWORD = "grapes-4711"  # noqa: S105 - what everybody may know: that it comes through is what is tried
METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_racimo_lab" shortdesc="Fence agent for the nodes of a Racimo lab" >
<longdesc>fence_racimo_lab asks the supervisor of the lab that this node is part of to switch another node's power.
</longdesc>
<parameters>
<parameter name="action" unique="0" required="1"><content type="string" default="off" />
<shortdesc lang="en">Fencing action</shortdesc></parameter>
<parameter name="plug" unique="0" required="1" obsoletes="port"><content type="string" />
<shortdesc lang="en">The node of the lab, such as n1</shortdesc></parameter>
<parameter name="port" unique="0" required="1" deprecated="1"><content type="string" />
<shortdesc lang="en">The node of the lab, such as n1</shortdesc></parameter>
<parameter name="password" unique="0" required="0"><content type="string" />
<shortdesc lang="en">Not needed; but a wrong one is refused</shortdesc></parameter>
</parameters>
<actions>
<action name="on" automatic="0"/><action name="off" /><action name="status" /><action name="monitor" />
<action name="metadata" />
</actions>
</resource-agent>
"""


def main() -> int:
    """Do what standard input says."""
    options = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line and not line.startswith("#"))
    action, plug = options.get("action", "off"), options.get("plug") or options.get("port") or ""
    if action == "metadata":
        sys.stdout.write(METADATA)
        return 0
    if action not in ACTIONS or not plug:
        sys.stderr.write(f"Failed: action={action} plug={plug}: it takes off, on, status or monitor, and a plug\n")
        return 2
    if options.get("password", PASSWORD) != PASSWORD:
        sys.stderr.write("Failed: the password is wrong\n")
        return 1
    try:
        answer = ask({"action": "status" if action == "monitor" else action, "plug": plug})
    except (OSError, ValueError) as error:
        sys.stderr.write(f"Failed: the lab's supervisor does not answer: {error}\n")
        return 1
    if "error" in answer:
        sys.stderr.write(f"Failed: {answer['error']}\n")
        return 1
    sys.stdout.write(f"{answer['said']}\n")
    return 2 if action == "status" and answer["power"] == "off" else 0


def ask(request: dict[str, str]) -> dict[str, str]:
    """One question, one answer, each a line of JSON. Waits as long as it takes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(SOCKET)
        line.sendall(json.dumps(request).encode() + b"\n")
        with line.makefile("rb") as answers:
            answer: dict[str, str] = json.loads(answers.readline())
            return answer


if __name__ == "__main__":
    sys.exit(main())
