"""What happens in random histories, by name. What each does is in ``faults`` and ``administration``."""

from __future__ import annotations

FAULTS = (
    "crash",
    "power-loss",
    "pause",
    "cpu-starvation",
    "isolation",
    "one-way-partition",
    "partial-partition",
    "split",
    "flap",
    "loss",
    "duplication",
    "reordering",
    "delay",
    "clock-jump",
    "clock-drift",
    "disk-full",
    "disk-stall",
    "disk-error",
    "torn-write",
    "leader-stall",
    "leader-change",
    "answer-lost",
    "late-answer-then-isolation",
    "watchdog-silent",
    "watchdog-early",
    "guard-killed",
    "ha-restart",
    "daemon-away",
    "control-plane-killed",
    "store-away",
    "storage-without-network",
    "network-without-storage",
    "migration-cut-prepared",
    "migration-cut-transferred",
    "migration-cut-halted",
    "migration-cut-committed",
    "late-commands",
    "repeated-commands",
    "next-version",
    "cold-start",
    "node-lost",
    "guest-crash",
    "ask-to-move",
    "fence-hangs",
    "fence-lies",
    "fence-reports-early",
    "fence-slow",
    "fence-dies-with-host",
)

ADMINISTRATION = (
    "maintenance",
    "shutdown",
    "reboot",
    "disarm-freeze",
    "disarm-ignore",
    "stopped-and-started",
    "moved-by-hand",
)
"""What people do to nodes and to HA. It is drawn beside the faults."""

AIMED = (
    "start-while-moved",
    "outage-with-one-late",
    "daemon-halted",
    "cut-off-from-all",
    "cut-off-while-disarmed",
    "move-unanswered",
    "fence-says-nothing",
    "fence-answers-late",
)
"""Faults that hit one window each, drawn for deliberate breaks alone: see ``aimed``."""

KINDS = (*FAULTS, *ADMINISTRATION)
