"""`styx serve` and `styx server`: the server in the foreground, and this user's in the background."""

from pathlib import Path
from typing import Any

import click
import msgspec

from styx import config as configuration
from styx.cli import commands, exits, local, main, options, render, talk
from styx.cli.render import Column
from styx.kit import cycles
from styx.sdk.address import LocalServer


class ServerState(msgspec.Struct):
    """`pid` and `url` of a server that runs."""

    status: str  # running, stopped
    home: str
    url: str = ""
    pid: int | None = None


_COLUMNS = (
    Column("STATUS", lambda row: render.state(row.status), status=lambda row: row.status),
    Column("URL", lambda row: row.url or "–"),
    Column("PID", lambda row: str(row.pid or "–")),
    Column("HOME", lambda row: row.home),
)


@click.command()
@click.option("--host", help="Listen here.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one.  [default: 8080]")
@click.option("--with-agent", is_flag=True, help="Also run tasks on this machine.")
@options.config_file
def serve(host: str | None, port: int | None, with_agent: bool, config_file: Path | None) -> Any:
    """Run the server in the foreground; its log goes to stderr. SIGTERM stops it cleanly.

    Without DATABASE_URL it keeps a private Postgres in its home.
    """
    if config_file:
        configuration.pass_on(config_file)
    loaded = configuration.load({"server.host": ("--host", host), "server.port": ("--port", port)})
    cycles.look_not()
    with main.needing_extras():
        return main.load(commands.SERVE)(loaded.config, with_agent=with_agent)


@click.group(no_args_is_help=False)
def server() -> None:
    """The background server of this user, with an agent on this machine.

    `styx run` starts it by itself where no server is configured.
    """


@server.command()
@options.output
def start(output: str) -> None:
    """Start it, unless it runs already."""
    loaded = configuration.load()
    with talk.passing("starting …"):
        found, _ = local.start(loaded)
    _print(_state(loaded.config, found), output)


@server.command()
def stop() -> int:
    """Stop it. Tasks that run go on, and are picked up again at the next start."""
    config = configuration.load().config
    with talk.passing("stopping …"):
        stopped = local.stop(config)
    if stopped is None:
        talk.say(f"no server runs for {config.home_path}")
        return exits.NO
    talk.say(f"stopped {stopped.url}")
    return exits.FINE


@server.command()
@options.output
def status(output: str) -> int:
    """Say whether it runs, and where; exit 1 if it does not."""
    config = configuration.load().config
    found = local.running(config)
    _print(_state(config, found), output)
    return exits.FINE if found else exits.NO


def _state(config: configuration.Config, found: LocalServer | None) -> ServerState:
    home = str(config.home_path)
    if found is None:
        return ServerState("stopped", home)
    return ServerState("running", home, found.url, found.pid)


def _print(state: ServerState, output: str) -> None:
    if output in {"table", "wide"}:
        render.rows([state], _COLUMNS, output)
    elif output == "name":
        render.line(state.url)
    else:
        render.value(state, output)
