"""Where a guest should run: rules, who can have it, scores, and moves that level the nodes' use. Pure.

Imports ``racimo.model`` alone.
"""
