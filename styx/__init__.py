"""Styx: run any command, array or DAG of commands on whatever machines you have or can rent."""

__version__ = "0.1.0"
