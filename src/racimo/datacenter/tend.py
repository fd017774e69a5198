"""``python -m racimo.datacenter.tend``: what a witness's timer runs once a day. A witness has no daemon of Racimo."""

from __future__ import annotations

import asyncio
import sys

import structlog

from racimo.datacenter.host import Host
from racimo.datacenter.services import SystemdServices
from racimo.datacenter.witness import tend
from racimo.errors import RacimoError

log = structlog.get_logger()

LIMIT_S = 300.0


class JournalReport:
    """A ``Report`` to standard output, which the journal keeps."""

    def log(self, text: str) -> None:
        log.info(text)

    def warn(self, text: str) -> None:
        log.warning(text)

    def progress(self, fraction: float, text: str = "") -> None:
        log.debug(text, fraction=fraction)


def main() -> int:
    """Renew the witness's certificate and look after its vote; 1 when that could not be done."""
    try:
        asyncio.run(tend(Host(SystemdServices()), LIMIT_S, JournalReport()))
    except (RacimoError, OSError) as error:
        log.warning("The witness could not be looked after", why=str(error), todo="See the journal; it is tried again")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
