"""``racimo simulate`` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations when it runs
from typing import Annotated, Any

import typer

from racimo.errors import BadRequest
from racimo.ha.simulate.campaign import run_seeds
from racimo.ha.simulate.history import play
from racimo.ha.simulate.report import campaign_json, campaign_lines, scenario_json, scenario_lines
from racimo.ha.simulate.scenario_file import read_scenario

app = typer.Typer(
    name="simulate",
    help="HA's decisions on a simulated datacenter, with faults.",
    invoke_without_command=True,
    rich_markup_mode="rich",
    add_completion=False,
)

VIOLATED = 1
"""The exit code when an invariant was broken."""


@app.callback(
    epilog="racimo simulate --seeds 100\n\nracimo simulate --seeds 1 --start 4711\n\n"
    "racimo simulate --scenario my-rules.json --json"
)
def simulate(
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", help="Play N random histories.", min=1, show_default=False)
    ] = None,
    start: Annotated[int, typer.Option("--start", metavar="SEED", help="The first seed.", min=0)] = 0,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", metavar="FILE", help="Play this scenario file.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Processes (default: one for each CPU).", min=1)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Play the real high-availability code on simulated time, network, disks and hosts.

    With --seeds: random datacenters with random faults; none of the promises may be broken. With --scenario: your own
    datacenter, rules and events, to see where guests go. Ends with code 1 if an invariant was broken.
    """
    if (seeds is None) == (scenario is None):
        raise BadRequest(
            "Say what to simulate",
            why="exactly one of --seeds and --scenario is needed",
            todo="racimo simulate --seeds 100, or racimo simulate --scenario FILE",
        )
    if scenario is not None:
        setup = read_scenario(scenario)
        result = play(setup)
        _print(scenario_json(result) if json_output else scenario_lines(setup.name, result))
        raise typer.Exit(VIOLATED if result.violations else 0)
    campaign = run_seeds(start, seeds or 1, jobs)
    _print(campaign_json(campaign) if json_output else campaign_lines(campaign, start))
    raise typer.Exit(VIOLATED if campaign.broken else 0)


def _print(answer: dict[str, Any] | list[str]) -> None:
    text = "\n".join(answer) if isinstance(answer, list) else json.dumps(answer, indent=2, ensure_ascii=False)
    sys.stdout.write(text + "\n")
