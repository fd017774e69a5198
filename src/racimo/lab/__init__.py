"""A whole datacenter on one machine: nodes as containers.

May import every room but ``cli``.
"""
