"""Fencing, proof A: a node's power is cut by its fence devices, and the devices confirm that it is off.

``orders`` and ``proofs`` are pure; the rest runs the devices' programs. Imports model, store, errors and
ha's own parts.
"""
