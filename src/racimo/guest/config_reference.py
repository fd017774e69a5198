"""The reference page of guest configurations, written from the option table.

``python -m racimo.guest.config_reference > docs/reference/guest-config.md``
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from racimo.guest.config_options import OPTIONS, REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.guest.config_options import Option

INTRODUCTION = """# Guest configuration

Written from the option table by `python -m racimo.guest.config_reference`; do not edit.

A guest's configuration is a set of `key: value` lines with the keys and value grammar of Proxmox VE's `qm.conf`. A
value with parts is written `part,name=part,...`; the name in square brackets may be left out. Sizes take K, M, G or T
(1024-based).

A change reaches a running guest as the last column says: *at once*; by *hotplug* where that is possible, else at the
next start; or at the *next start*.
"""


def reference_page() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    yield "| key | what it is | default | a change applies |"
    yield "|---|---|---|---|"
    for option in OPTIONS:
        default = f"`{option.default}`" if option.default is not None else ""
        yield f"| [`{option.shown}`](#{_anchor(option)}) | {option.description} | {default} | {option.applies} |"
    yield "\n## Values\n"
    for option in OPTIONS:
        yield f"### {option.key}\n"
        yield f"`{option.shown}: {option.kind.syntax}`\n"
    yield "## Keys that are refused\n"
    yield "These are keys of Proxmox VE that Racimo knows and does not take.\n"
    yield "| key | reason |"
    yield "|---|---|"
    for key, reason in sorted(REFUSED.items()):
        yield f"| `{key}` | {reason} |"


def _anchor(option: Option) -> str:
    return option.key


if __name__ == "__main__":
    sys.stdout.write(reference_page())
