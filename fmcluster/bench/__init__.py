"""Benchmarks as committed, re-runnable data: cells, suites, peers, tables, a regression gate.

A cell is one data set x one method x one seed; its JSON names everything that decided its numbers,
so a finished cell is skipped and a changed setting is a new one. Labels evaluate and do nothing
else.
"""

from __future__ import annotations
