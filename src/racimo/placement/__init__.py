"""Where a guest should run: score, choose, rebalance. Pure.

The pure core imports ``racimo.model`` alone.
"""
