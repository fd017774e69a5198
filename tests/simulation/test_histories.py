"""Real HA code in simulated time: whatever fails, a guest never runs twice; once it is healed, every guest runs."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest
import structlog
from history import play
from mutants import MUTANTS, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = int(os.environ.get("RACIMO_SEEDS", "24"))
FIRST = int(os.environ.get("RACIMO_FIRST_SEED", "0"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Only the oracle speaks."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_no_guest_runs_twice_and_all_run_in_the_end(seed: int) -> None:
    result = play(seed)
    assert not result.failures, result.failures
    assert not result.violations, "\n".join(result.log[-80:])
    assert result.starts >= 3


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.story.__name__)
def test_the_rules_as_they_are_stand_the_story_of_each_break(mutant: Mutant) -> None:
    result = play(1, story=mutant.story)
    assert not result.violations, "\n".join(result.log[-80:])


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_oracle_sees_each_deliberate_break(mutant: Mutant) -> None:
    result = play(1, mutant.make_ha, mutant.prepare, mutant.story)
    assert any(" runs on " in violation or "while it runs" in violation for violation in result.violations)
