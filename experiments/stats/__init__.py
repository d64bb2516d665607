"""The statistics of experiments: plain Python on numpy and SciPy, no database. The unit of analysis is the visitor.

Sums of each arm (`sums`) become an `Effect`, how much a variant differs from the champion (`effects`, `cuped`), and an
effect becomes an interval: for one look (`effects`) or for a look every day (`sequential`).
"""
