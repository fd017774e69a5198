"""The time zone of this machine: ``/etc/localtime`` and ``/etc/timezone``."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, OperationFailed
from racimo.machine.files import replace_text

if TYPE_CHECKING:
    from pathlib import Path

ZONES = "usr/share/zoneinfo"
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")


def read_zone(root: Path) -> str:
    """The zone's name, such as ``Europe/Madrid``; ``UTC`` where none is set."""
    try:
        target = os.readlink(root / "etc/localtime")
    except OSError:
        return "UTC"
    return target.partition("zoneinfo/")[2] or "UTC"


def write_zone(root: Path, zone: str) -> None:
    """Use ``zone`` from now on. Raises ``BadParameter`` for one that this machine does not know."""
    known = root / ZONES / zone
    if not _ZONE.fullmatch(zone) or not known.is_file() or known.read_bytes()[:4] != b"TZif":
        raise BadParameter({"timezone": f"'{zone[:80]}' is no time zone of this node, such as Europe/Madrid"})
    link = root / "etc/localtime"
    temporary = link.with_name(f".localtime.{secrets.token_hex(6)}")
    try:
        temporary.symlink_to(f"/{ZONES}/{zone}")
        temporary.replace(link)
    except OSError as error:
        raise OperationFailed("The time zone was not changed", why=str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    replace_text(root / "etc/timezone", f"{zone}\n")
