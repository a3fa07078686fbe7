"""Styx: run any command, array or DAG of commands on whatever machines you have or can rent."""

import importlib

__version__ = "0.1.0"
SDK = frozenset({"AsyncStyx", "Styx", "TaskFailed", "job", "task"})


def __getattr__(name: str) -> object:
    """`from styx import Styx`: the SDK is imported when it is asked for, and `styx version` never asks."""
    if name in SDK:
        return getattr(importlib.import_module("styx.sdk"), name)
    raise AttributeError(f"module 'styx' has no attribute {name!r}")
