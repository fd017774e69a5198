"""Notifications: what is said (``events``, ``judge``: pure), to whom (``matching``: pure), said once (``teller``), and
delivered (``post``, ``smtp``, ``webhook``, ``sendmail``).

Imports model, store, task and errors alone; ``node`` wires it up.
"""
