"""`styx secret`."""

import sys
from pathlib import Path
from typing import Final

import click

from styx.cli import exits, options, session, talk, watch
from styx.cli.render import Column
from styx.core import secret as rules
from styx.core.fields import Wrong

STDIN: Final = "-"
COLUMNS: Final = (
    Column("NAME", lambda row: row.name, elastic=True),
    Column("SET (UTC)", lambda row: f"{row.updated_at:%Y-%m-%d %H:%M:%S}"),
    Column("BY", lambda row: row.updated_by),
    Column("CREATED (UTC)", lambda row: f"{row.created_at:%Y-%m-%d %H:%M:%S}", wide=True),
    Column("KEY", lambda row: row.key_id, wide=True),
    Column("ID", lambda row: row.id, wide=True),
)
_SECRETS: Final = watch.List(
    COLUMNS, "no secrets; `styx secret set NAME` keeps one", name=lambda row: row.name
)
_NAME: Final = click.argument("name")


@click.group(no_args_is_help=True)
def secret() -> None:
    """Values that tasks get and nobody sees: tokens, passwords, keys.

    A task names those that it wants: `secrets: [NAME]` in a file, `styx run --secret NAME`.
    """


@secret.command("set")
@_NAME
@click.argument("value", required=False)
@click.option(
    "--from-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the value from this file, as it is.",
)
def put(name: str, value: str | None, from_file: Path | None) -> int:
    """Create or replace NAME. The value comes from the terminal, or from standard input.

    A VALUE in the command is for values that are no secrets elsewhere: shells remember commands.
    """
    if value is not None and from_file is not None:
        raise click.UsageError("give either a VALUE or --from-file, not both")
    given = _given(value, from_file)
    try:
        rules.value(given)
    except Wrong as wrong:
        raise click.UsageError(f"the value: {wrong.errors[0].message}") from None
    with session.connect() as styx:
        row = styx.put_secret(name, given)
    talk.say(f"{row.name}: {'set' if row.created_at == row.updated_at else 'replaced'}")
    return exits.FINE


@secret.command("list")
@options.limit
@options.output
def browse(limit: int, output: str) -> None:
    """List the secrets, without their values."""
    with session.connect() as styx:
        watch.show(lambda: list(styx.secrets(limit=limit)), _SECRETS, output)


@secret.command()
@_NAME
def delete(name: str) -> int:
    """Forget it. Tasks that run keep the value that they have."""
    with session.connect() as styx:
        talk.say(f"{styx.delete_secret(name).name}: deleted")
    return exits.FINE


@secret.command()
def rotate() -> int:
    """Put every secret under the first of the server's keys, so that the older ones can go."""
    with session.connect() as styx:
        talk.say(f"{styx.rotate_secret_keys().rotated} rotated")
    return exits.FINE


def _given(value: str | None, from_file: Path | None) -> str:
    if from_file is not None:
        return _text(from_file.read_bytes())
    if value is not None and value != STDIN:
        talk.warn("the value is in your shell's history now: leave it out, and type or pipe it")
        return value
    if value is None and sys.stdin.isatty():
        return click.prompt("Value", hide_input=True, err=True)
    return _text(sys.stdin.buffer.read()).rstrip("\r\n")  # what `echo` adds is not meant


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise click.UsageError("the value is not UTF-8: give it as base64, say") from None
