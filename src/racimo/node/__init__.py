"""The daemon of a node: wires all rooms together.

May import every room but ``cli`` and ``lab``.
"""
