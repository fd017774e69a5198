"""What keeps the datacenter's records: one protocol (``base``), three backends, a watched copy, typed collections.

May import ``racimo.model`` and ``racimo.errors``.
"""
