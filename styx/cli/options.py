"""Options and arguments that several commands share, with completion of live ids."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from styx.cli import render
from styx.core import units
from styx.errors import StyxError
from styx.sdk.client import Styx

F = TypeVar("F", bound=Callable[..., Any])
COMPLETED: Final = 100  # ids offered at a time
COMPLETION_PATIENCE_S: Final = 0.0  # a shell must not hang on a server that is away

config_file = click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this configuration file.",
)
output = click.option(
    "-o",
    "--output",
    type=click.Choice(render.FORMATS),
    default="table",
    show_default=True,
    help="How to print.",
)
label = click.option("-l", "--label", metavar="K=V", multiple=True, help="Only with this label.")
sky = click.option(
    "--sky", is_flag=True, help="Read it as SkyPilot does, even if it could be one of Styx."
)
secret = click.option(
    "--secret",
    "secrets",
    metavar="NAME[=VALUE]",
    multiple=True,
    help="A secret, as the variable of its name (see `styx secret`), or with a value for this job alone.",
)
limit = click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many."
)
watch = click.option(
    "-w", "--watch", "watching", is_flag=True, help="Go on, and show what changes."
)


class Parsed(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]: generic in newer clicks only
    """What `reader` makes of a word; `reader` raises `units.Expected`."""

    def __init__(self, name: str, reader: Callable[[str], object]) -> None:
        self.name = name
        self._reader = reader

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._reader(str(value))
        except units.Expected as wrong:
            self.fail(f"expected {wrong}, not '{value}'", param, ctx)


def text(name: str, reader: Callable[[object], object]) -> Parsed:
    """A word that `reader` accepts, as it was typed: the server reads it again."""

    def accepted(word: str) -> str:
        reader(word)
        return word

    return Parsed(name, accepted)


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise units.Expected("K=V")
    return key, value


def _since(word: str) -> str:
    """As RFC 3339."""
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        try:
            moment = datetime.now(UTC) - timedelta(seconds=units.seconds(word))
        except units.Expected:
            raise units.Expected("a date, or an age such as 2h") from None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


DURATION: Final = Parsed("duration", units.seconds)
PAIR: Final = Parsed("k=v", _pair)

since = click.option("--since", type=Parsed("age|date", _since), help="Not older than this.")


def status(words: Sequence[str]) -> Callable[[F], F]:
    return click.option(
        "--status", type=click.Choice(words), multiple=True, help="Only in this state."
    )


def references(function: F) -> F:
    """One or more tasks or jobs."""
    argument = click.argument(
        "references", metavar="ID…", nargs=-1, required=True, shell_complete=complete_tasks
    )
    return argument(function)


def reference(function: F) -> F:
    """One task or job."""
    return click.argument("reference", metavar="ID", shell_complete=complete_tasks)(function)


def agent(function: F) -> F:
    return click.argument("reference", metavar="AGENT", shell_complete=complete_agents)(function)


def complete_tasks(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del ctx, param
    return _complete(
        incomplete,
        lambda styx: ((t.id, f"{t.name} {t.status}") for t in styx.tasks(limit=COMPLETED)),
    )


def complete_agents(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    del ctx, param
    return _complete(
        incomplete, lambda styx: ((a.name, a.status) for a in styx.agents(limit=COMPLETED))
    )


def _complete(
    incomplete: str, candidates: Callable[[Styx], Iterator[tuple[str, str]]]
) -> list[CompletionItem]:
    try:
        with Styx(patience_s=COMPLETION_PATIENCE_S) as styx:
            found = list(candidates(styx))
    except StyxError:  # no server, no candidates
        return []
    return [CompletionItem(word, help=note) for word, note in found if word.startswith(incomplete)]
