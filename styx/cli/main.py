"""The command line: a group that imports a command when it is called, and the border where every
error becomes one sentence and an exit code.
"""

import importlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, cast

import click

from styx import __version__
from styx.cli import commands, detach, exits, talk
from styx.errors import StyxError

PROGRAM = "styx"


class MissingExtra(StyxError):
    """The server was not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"this installation has no server (the package {package} is missing)",
            hint="pip install 'styx[server]'",
        )


class Commands(click.Group):
    """The sub-commands of `commands.TARGETS`, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(commands.TARGETS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in commands.TARGETS:
            return None
        return cast("click.Command", load(commands.TARGETS[cmd_name][0]))

    def get_help(self, ctx: click.Context) -> str:
        del ctx
        return commands.overview()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if ctx.resilient_parsing or word.startswith("-") or word in commands.TARGETS:
            return super().resolve_command(ctx, args)
        near = get_close_matches(word, commands.TARGETS, n=1)
        suggestion = f"; did you mean: {PROGRAM} {near[0]}" if near else ""
        raise click.UsageError(f"no command '{word}'{suggestion}")


def load(target: str) -> Any:
    """The object that "module:name" names. Raises: MissingExtra."""
    module, _, name = target.partition(":")
    with needing_extras():
        return getattr(importlib.import_module(module), name)


@contextmanager
def needing_extras() -> Generator[None]:
    """What is imported in it may come with an extra. Raises: MissingExtra."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == PROGRAM:
            raise
        raise MissingExtra(package) from error


@click.group(PROGRAM, cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"{PROGRAM} %(version)s")
def styx() -> None:
    pass


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    talk.catch_bugs()
    try:
        words = list(arguments) or ["--help"]
        code: object = styx.main(words, prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        talk.error(_sentence(error), hint=f"{path} --help")
        return exits.USAGE
    except click.ClickException as error:
        talk.error(_sentence(error))
        return exits.USAGE
    except talk.PipeClosed:
        return exits.PIPE_CLOSED
    except detach.Detached:
        return exits.DETACHED
    except StyxError as error:
        talk.failure(error)
        return exits.of_error(error)
    except (click.Abort, KeyboardInterrupt):
        return exits.DETACHED
    return code if isinstance(code, int) else exits.FINE


def _sentence(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]
