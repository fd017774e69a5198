"""Racimo: plain Debian servers become one highly available virtualisation datacenter.

The rooms and who may import whom: docs/architecture.md.
"""

__version__ = "0.1.0"
