"""The HTTP API: a table of endpoints, the server, forwarding to the owning node.

May import all rooms below, not ``node``, ``cli`` or ``lab``.
"""
