"""Backends: what the primitive computes, written for one kind of machine each.

A backend is a module with three functions, ``sample``, ``splat`` and ``correlate``, each of
(operands, spec). All compute the same sums; `portable` is the one that the others are
compared with, and what runs wherever no other form does.
"""
