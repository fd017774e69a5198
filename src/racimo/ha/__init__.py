"""High availability: a pure core (``decide``, ``states``, ``timing``), and live heartbeat, guard, agent, manager.

The pure core imports ``racimo.model`` alone.
"""
