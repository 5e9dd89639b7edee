"""What the benchmarks share: their command lines, data, clocks, memory and printed tables.

A script that is run as ``python benchmarks/NAME.py`` finds this package beside itself.
"""
