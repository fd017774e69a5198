"""Drivers for where disks live, with their capabilities as records.

May import ``racimo.store``, ``racimo.model`` and ``racimo.errors``.
"""
