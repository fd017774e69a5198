"""What a simulation prints: JSON for programs, tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from racimo.ha.simulate.campaign import Broken, Campaign
    from racimo.ha.simulate.history import Checkpoint, Result
    from racimo.ha.simulate.oracle import Happening
    from racimo.ha.simulate.setup import RuleSetup, Setup

STORY = 120
"""So many lines of a broken history are printed."""


def campaign_json(campaign: Campaign) -> dict[str, Any]:
    """The document of ``racimo simulate --seeds N --json``."""
    rounded = {share: campaign.percentile(share) for share in (0.5, 0.99, 1.0)}
    return {
        "seeds": campaign.seeds,
        "hours": round(campaign.seconds / 3600, 2),
        "faults": dict(sorted(campaign.faults.items())),
        "drawn": dict(sorted(campaign.drawn.items())),
        "violations": [_broken_json(broken) for broken in campaign.broken],
        "failovers": {
            "count": len(campaign.failovers),
            "p50_s": _round(rounded[0.5]),
            "p99_s": _round(rounded[0.99]),
            "max_s": _round(rounded[1.0]),
        },
    }


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _broken_json(broken: Broken) -> dict[str, Any]:
    shortened = setup_json(broken.shortened) if broken.shortened else None
    return {"seed": broken.seed, "violations": list(broken.violations), "shortened": shortened}


def setup_json(setup: Setup) -> dict[str, Any]:
    """A scenario that plays the same again."""
    options, durations = setup.options, setup.durations
    return {
        "name": setup.name,
        "seed": setup.seed,
        "healed": setup.healed,
        "fences": setup.fences,
        "nodes": {
            name: {"cpus": node.cpus, "memory": node.memory, "power": "on" if node.on else "off"}
            for name, node in setup.nodes.items()
        },
        "guests": {
            sid: {
                "node": guest.node,
                "state": guest.state,
                "max_restart": guest.max_restart,
                "max_relocate": guest.max_relocate,
                "failback": guest.failback,
                "cpus": guest.cpus,
                "memory": guest.memory,
                "load": {"cpu": guest.load_cpu, "memory": guest.load_memory},
            }
            for sid, guest in setup.guests.items()
        },
        "rules": [_rule_json(rule) for rule in setup.rules],
        "options": {name: getattr(options, name) for name in options.__slots__},
        "durations": {name: getattr(durations, name) for name in durations.__slots__},
        "steps": [{"at": step.at, "do": [verb.words for verb in step.verbs]} for step in setup.steps],
        "end": setup.end,
    }


def _rule_json(rule: RuleSetup) -> dict[str, Any]:
    named: dict[str, Any] = {"id": rule.id, "type": rule.type, "resources": list(rule.resources)}
    if rule.type == "node-affinity":
        return named | {"nodes": dict(rule.nodes), "strict": rule.strict, "disable": rule.disabled}
    return named | {"affinity": rule.affinity, "disable": rule.disabled}


def checkpoint_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """One checkpoint."""
    return {
        "at": checkpoint.at,
        "settled": checkpoint.settled,
        "nodes": {
            name: {"power": node.power, "network": node.network, "state": node.state}
            for name, node in checkpoint.nodes.items()
        },
        "guests": {
            sid: {
                "node": guest.node,
                "state": guest.state,
                "requested": guest.requested,
                "running_on": list(guest.running_on),
            }
            for sid, guest in checkpoint.guests.items()
        },
    }


def _event_json(event: Happening) -> dict[str, Any]:
    where = "guest" if event.subject.startswith("vm:") else "node"
    return {"at": round(event.at, 3), where: event.subject, "what": event.what, "why": event.why}


def scenario_json(result: Result) -> dict[str, Any]:
    """The document of ``racimo simulate --scenario FILE --json``."""
    return {
        "checkpoints": [checkpoint_json(checkpoint) for checkpoint in result.checkpoints],
        "final": checkpoint_json(result.final),
        "events": [_event_json(event) for event in result.events],
        "max_copies": result.max_copies,
        "violations": list(result.violations),
    }


def campaign_lines(campaign: Campaign, first: int) -> list[str]:
    """For people."""
    last = first + campaign.seeds - 1
    lines = [
        f"Seeds {first} to {last}: {campaign.seconds / 3600:.1f} simulated hours, {campaign.starts} starts of guests.",
        "",
        "Fault                          Times",
    ]
    lines += [f"{name:<30} {count:>5}" for name, count in sorted(campaign.faults.items())]
    lines += ["", "Histories with                 Times"]
    lines += [f"{name:<30} {count:>5}" for name, count in sorted(campaign.drawn.items())]
    if campaign.failovers:
        median, late, most = (campaign.percentile(share) for share in (0.5, 0.99, 1.0))
        lines += ["", f"Failovers: {len(campaign.failovers)}, half within {median:.1f} s, 99 % within {late:.1f} s, "]
        lines[-1] += f"the longest {most:.1f} s."
    lines.append("")
    if not campaign.broken:
        lines.append("No invariant was broken.")
    for broken in campaign.broken:
        lines += _broken_lines(broken)
    return lines


def _broken_lines(broken: Broken) -> list[str]:
    lines = [f"Seed {broken.seed} breaks an invariant:", *(f"  {text}" for text in broken.violations[:5])]
    if broken.shortened is not None:
        nodes, guests = len(broken.shortened.nodes), len(broken.shortened.guests)
        lines += [f"  Shortened to {nodes} nodes and {guests} guests:"]
        lines += [f"    {line}" for line in broken.story[-STORY:]]
    lines.append(f"  Play it again: racimo simulate --seeds 1 --start {broken.seed}")
    return lines


def scenario_lines(name: str, result: Result) -> list[str]:
    """For people."""
    lines = [f"{name or 'Scenario'}:", *(event.line() for event in result.events), ""]
    final = result.final
    lines.append(f"After {final.at:g} s, {'settled' if final.settled else 'not settled'}:")
    for node, seen in final.nodes.items():
        lines.append(f"  {node:<12} power {seen.power}, network {seen.network}, {seen.state}")
    for sid, guest in final.guests.items():
        runs = f"runs on {', '.join(guest.running_on)}" if guest.running_on else "does not run"
        lines.append(f"  {sid:<12} {guest.state} on {guest.node}, wanted {guest.requested}, {runs}")
    lines.append("")
    lines += [f"BROKEN: {text}" for text in result.violations] or ["No invariant was broken."]
    return lines
