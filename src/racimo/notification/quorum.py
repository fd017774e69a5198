"""Tells that the store is out of reach, and that it is back: past the store, by one of the nodes that noticed.

Each node that noticed asks the others. The one with the lowest name among those that answer says it; a node that still
has the store keeps all of them quiet, because then it is not the quorum that is lost. What was said is kept in a file,
so that a daemon that is restarted meanwhile does not say it again, and does say when it is over.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from racimo.model.notification import EventType, Severity
from racimo.notification.events import Begin, Over

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from racimo.notification.post import Post
    from racimo.notification.teller import Teller

log = structlog.get_logger()

LOST_AFTER_S = 10.0
"""An election in the store takes less."""
LOOK_S = 2.0
ASK_S = 3.0
KEY = "quorum"


class Others(Protocol):
    """The other nodes, asked directly."""

    async def ask(self, timeout: float) -> Mapping[str, bool | None]:
        """Each other node: whether the store is lost to it; None where it does not answer within ``timeout`` s."""


def who_says_it(own: str, answers: Mapping[str, bool | None]) -> str:
    """The node that is to say that the quorum is lost; empty if it is not lost, since somebody has the store."""
    if any(lost is False for lost in answers.values()):
        return ""
    return min([own, *(name for name, lost in answers.items() if lost)])


def account(own: str, since_s: float, answers: Mapping[str, bool | None]) -> str:
    """What is known of the others, for people."""
    same = sorted(name for name, lost in answers.items() if lost)
    silent = sorted(name for name, lost in answers.items() if lost is None)
    words = [f"{own} has had no answer from the store for {since_s:.0f} s: nothing can be changed or recovered."]
    if same:
        words.append(f"The same is true of {', '.join(same)}.")
    if silent:
        words.append(f"No answer from {', '.join(silent)}.")
    words.append("See: racimo cluster status; with most voters gone for good: racimo cluster recover")
    return " ".join(words)


class QuorumWatch:
    """One node's. ``stale_s()``: seconds since its copy of the store was last current; None while it is."""

    def __init__(
        self,
        teller: Teller,
        post: Post,
        others: Others,
        stale_s: Callable[[], float | None],
        file: Path,
        lost_after: float = LOST_AFTER_S,
        look: float = LOOK_S,
    ) -> None:
        self._teller, self._post, self._others, self._stale_s, self._file = teller, post, others, stale_s, file
        self._lost_after, self._look = lost_after, look
        self._heard = ""

    @property
    def lost(self) -> bool:
        """Whether the store is out of this node's reach."""
        stale = self._stale_s()
        return stale is not None and stale > self._lost_after

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.turn()
            await asyncio.sleep(self._look)

    async def turn(self) -> None:
        """Look once."""
        stale, said = self._stale_s(), self._said()
        if stale is None:
            self._heard = ""
            if said is not None:
                self._say_it_is_over(*said)
        elif stale > self._lost_after and said is None and not self._heard:
            answers = await self._others.ask(ASK_S)
            speaker = who_says_it(self._teller.node, answers)
            if speaker == self._teller.node:
                shared = any(answers.values())
                title = "The quorum is lost" if shared else f"{speaker} does not reach a quorum"
                self._say(title, account(speaker, stale, answers))
            elif speaker:
                self._heard = speaker
                log.warning("the store is lost; another node says so", speaker=speaker)

    def _say(self, title: str, text: str) -> None:
        fields = {"hostname": self._teller.node, "node": self._teller.node}
        begin = Begin(KEY, EventType.QUORUM, Severity.ERROR, title, text, fields)
        message = self._teller.address(self._teller.message((begin,)))
        log.error(f"notification: {message.title}", type="quorum", text=text, targets=",".join(message.targets))
        self._keep({"message": message.id, "targets": list(message.targets)})
        if message.targets:
            self._post.send_past_the_store(message)

    def _say_it_is_over(self, about: str, told: Sequence[str]) -> None:
        node = self._teller.node
        text = f"The store answers {node} again: changes are possible, and HA acts."
        over = Over(KEY, EventType.QUORUM, "There is a quorum again", text, {"hostname": node, "node": node})
        message = replace(self._teller.message((over,)), targets=self._teller.known_targets(told), about=about)
        log.info(f"notification: {message.title}", type="quorum", targets=",".join(message.targets))
        self._file.unlink(missing_ok=True)
        if message.targets:
            self._post.send_past_the_store(message)

    def _said(self) -> tuple[str, Sequence[str]] | None:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            return str(kept["message"]), [str(name) for name in kept["targets"]]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            log.warning("what was said of the quorum cannot be read", path=str(self._file), why=str(error))
            self._file.unlink(missing_ok=True)
            return None

    def _keep(self, said: Mapping[str, object]) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(said), encoding="utf-8")
        os.replace(fresh, self._file)
