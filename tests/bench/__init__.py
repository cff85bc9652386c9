"""Benchmarks that a person runs (`make bench-…`); none is a timed test in the suite.

Each is a module of its own: `PYTHONPATH=tests python -m bench.NAME`. Its last line is
`BENCH {json}`, and its exit code says whether every bound held.
"""
