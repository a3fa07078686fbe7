"""`styx config`, `styx completion`, `styx version`."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import click
import msgspec
from click import shell_completion

from styx import __version__
from styx import config as configuration
from styx.cli import options, render
from styx.cli.render import Column

MASK = "********"


class Setting(msgspec.Struct, frozen=True):
    key: str
    value: object
    origin: str


_COLUMNS = (
    Column("KEY", lambda row: row.key),
    Column("VALUE", lambda row: msgspec.json.encode(row.value).decode()),
    Column("FROM", lambda row: row.origin),
)


@click.group(no_args_is_help=False)
def config() -> None:
    """The configuration: flag > environment > file > default."""


@config.command()
@options.config_file
@options.output
def show(config_file: Path | None, output: str) -> None:
    """Print every key with its value and where it came from; secrets are masked."""
    loaded = configuration.load(file=config_file)
    settings = [Setting(key, _masked(key, value), origin) for key, value, origin in loaded.items()]
    render.rows(settings, _COLUMNS, output, name=lambda row: row.key)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print the completion script of SHELL.

    \b
    bash:  eval "$(styx completion bash)"                 in ~/.bashrc
    zsh:   eval "$(styx completion zsh)"                  in ~/.zshrc
    fish:  styx completion fish | source                  in ~/.config/fish/config.fish
    """
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    program = ctx.find_root().command
    render.line(kind(program, {}, "styx", "_STYX_COMPLETE").source())


@click.command()
@options.output
def version(output: str) -> None:
    """Print the version of this program."""
    if output in {"table", "wide", "name"}:
        render.line(f"styx {__version__}")
    else:
        render.value({"version": __version__}, output)


def _masked(key: str, value: object) -> object:
    """A secret's presence, not its text; of a database's URL only the password, of a webhook all but the host."""
    if not value or key not in configuration.SECRETS:
        return value
    if isinstance(value, list | tuple):
        urls = [urlsplit(str(url)) for url in cast("Sequence[object]", value)]
        return [f"{url.scheme}://{url.netloc.rpartition('@')[2]}/{MASK}" for url in urls]
    parts = urlsplit(str(value))
    if not parts.hostname:
        return MASK
    host = parts.netloc.rpartition("@")[2]
    user = (
        f"{parts.username}:{MASK}@"
        if parts.password
        else f"{parts.username}@"
        if parts.username
        else ""
    )
    return urlunsplit(parts._replace(netloc=user + host, query=""))
