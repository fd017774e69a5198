"""An oracle that sees which node's QEMU of which guest runs, and knows nothing of the manager."""

from __future__ import annotations

import asyncio


class Oracle:
    """Watches the guests' processes."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.starts = 0
        self.log: list[str] = []
        self._running: dict[int, dict[str, int]] = {}

    def note(self, text: str) -> None:
        self.log.append(f"{asyncio.get_running_loop().time() - 1000:8.3f} {text}")

    def started(self, node: str, vmid: int, epoch: int) -> None:
        others = {name: at for name, at in self._running.get(vmid, {}).items() if name != node}
        self.note(f"{node} runs {vmid} epoch {epoch}")
        self.starts += 1
        if others:
            self.violate(f"{vmid} runs on {node} (epoch {epoch}) and on {others}")
        self._running.setdefault(vmid, {})[node] = epoch

    def ended(self, node: str, vmid: int, why: str) -> None:
        self.note(f"{node} ends {vmid}: {why}")
        self._running.get(vmid, {}).pop(node, None)

    def runners(self, vmid: int) -> set[str]:
        return set(self._running.get(vmid, {}))

    def violate(self, text: str) -> None:
        self.note("VIOLATION " + text)
        self.violations.append(text)
