"""`styx agents`, `styx agent`, `styx drain`, `styx resume`."""

from typing import Any, Final

import click

from styx import config as configuration
from styx.cli import commands, exits, main, options, render, session, talk, watch
from styx.cli.render import Column, number
from styx.core.agent import AgentState
from styx.sdk import address
from styx.wire import http as wire


def _share(part: str, unit: str = "") -> Any:
    """`1.5/4`: used of all."""

    def text(row: wire.AgentView) -> str:
        whole = getattr(row.resources, part)
        return f"{number(getattr(row.used, part))}/{number(whole)}{unit}" if whole else "–"

    return text


def _load(row: wire.AgentView) -> str:
    percent = row.load.get("cpu_percent")
    return "–" if percent is None else f"{percent:.0f}%"


def _seen(row: wire.AgentView) -> str:
    return "–" if row.last_seen_s is None else render.duration(row.last_seen_s)


COLUMNS: Final = (
    Column("AGENT", lambda row: row.name, elastic=True),
    Column("STATUS", lambda row: render.state(row.status), status=lambda row: row.status),
    Column("TASKS", lambda row: str(row.running), right=True),
    Column("CPUS", _share("cpus"), right=True),
    Column("MEMORY", _share("memory_gib", " GiB"), right=True),
    Column("GPUS", _share("gpus"), right=True),
    Column("LOAD", _load, right=True),
    Column("SEEN", _seen, right=True),
    Column("MODELS", lambda row: ", ".join(sorted(set(row.gpu_models))) or "–", wide=True),
    Column("LABELS", lambda row: render.labels(row.labels), wide=True),
    Column("ADDRESS", lambda row: row.address or "–", wide=True),
    Column("FOREIGN", lambda row: ", ".join(row.foreign) or "–", wide=True),
    Column("VERSION", lambda row: row.version, wide=True),
    Column("ID", lambda row: row.id, wide=True),
)
_AGENTS: Final = watch.List(
    COLUMNS, "no agents; start one here with: styx agent", name=lambda row: row.name
)


@click.command()
@options.status([str(state) for state in AgentState])
@options.limit
@options.watch
@options.output
def agents(status: tuple[str, ...], limit: int, watching: bool, output: str) -> None:
    """List the agents: what they have, what is used of it."""
    with session.connect() as styx:
        watch.show(
            lambda: list(styx.agents(limit=limit, status=",".join(status))),
            _AGENTS,
            output,
            watching=watching,
        )


@click.command()
@click.option("--server", help="Its URL.  [default: this machine's]")
@click.option("--token", help="Not needed on the server's own machine, as its user.")
@click.option("--name", help="[default: made once and kept]")
@click.option("--cpus", type=float, help="Offer so many cores.")
@click.option("--memory", type=float, help="Offer so many GiB.")
@click.option("--gpus", type=click.IntRange(0), help="Offer so many GPUs.")
@click.option("-l", "--label", type=options.PAIR, multiple=True, help="Tasks may ask for it.")
@options.config_file
def agent(config_file: Any, label: tuple[tuple[str, str], ...], **given: Any) -> Any:
    """Join a server and run tasks on this machine. Opens outbound connections only.

    When it stops, its running tasks go on, and its next start picks them up again.
    """
    flags = {
        "server.url": ("--server", given["server"]),
        "auth.token": ("--token", given["token"]),
        "agent.name": ("--name", given["name"]),
        "agent.cpus": ("--cpus", given["cpus"]),
        "agent.memory_gib": ("--memory", given["memory"]),
        "agent.gpus": ("--gpus", given["gpus"]),
        "agent.labels": ("--label", dict(label) or None),
    }
    loaded = configuration.load(flags, file=config_file)
    found = address.find(loaded.config)
    return main.load(commands.AGENT)(loaded.config, url=found.url, token=found.token)


@click.command()
@options.agent
def drain(reference: str) -> int:
    """Give an agent no new work; what runs there runs on."""
    with session.connect() as styx:
        return _changed(styx.drain(reference))


@click.command()
@options.agent
def resume(reference: str) -> int:
    """Give a drained agent work again."""
    with session.connect() as styx:
        return _changed(styx.resume(reference))


def _changed(row: wire.AgentView) -> int:
    talk.say(f"{row.name}: {row.status}, {row.running} running")
    return exits.FINE
