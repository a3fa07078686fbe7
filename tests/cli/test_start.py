"""How the program starts: fast, importing little, and with no traceback whatever happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from styx import __version__
from styx.cli import commands
from tests.support.site import ROOT

HEAVY = {"asyncio", "asyncpg", "litestar", "hypercorn", "psutil", "rich", "wsproto", "yaml"}
SERVER = {"styx.engine", "styx.store", "styx.api", "styx.app", "styx.agent"}


def styx(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "styx", *words, **env)


def python(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STYX_")}
    return subprocess.run(
        [sys.executable, *words],
        env=kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def imported(*words: str, **env: str) -> set[str]:
    """The modules that are loaded when this command line is over."""
    program = (
        "import sys, atexit\n"
        "from styx.__main__ import main\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.__stderr__))\n"
        f"sys.argv = ['styx', *{list(words)!r}]\n"
        "sys.exit(main())\n"
    )
    return set(python("-c", program, **env).stderr.split())


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_version(words: tuple[str, ...]) -> None:
    done = styx(*words)
    assert (done.stdout, done.returncode) == (f"styx {__version__}\n", 0)


def test_version_as_data() -> None:
    assert styx("version", "-o", "jsonl").stdout == f'{{"version":"{__version__}"}}\n'


@pytest.mark.parametrize("word", ["version", "--help"])
def test_the_quickest_answers_import_nothing(word: str) -> None:
    modules = imported(word)
    assert {"styx", "styx.cli.commands"} <= modules
    assert {m for m in modules if m.startswith(("styx", "click", "msgspec"))} == {
        "styx",
        "styx.__main__",
        "styx.cli",
        "styx.cli.commands",
    }


@pytest.mark.parametrize("words", [("run", "--help"), ("status",), ("server", "--help")])
def test_a_command_imports_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    modules = imported(*words, STYX_HOME=str(tmp_path), STYX_SERVER_URL="http://127.0.0.1:1")
    assert "styx.cli.main" in modules
    assert modules & (HEAVY | SERVER) == set()


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_command(words: tuple[str, ...]) -> None:
    done = styx(*words)
    assert done.returncode == 0
    assert [name for name in commands.TARGETS if f"\n  {name} " not in done.stdout] == []


@pytest.mark.parametrize("name", commands.TARGETS)
def test_every_command_has_help(name: str) -> None:
    from click.testing import CliRunner

    from styx.cli import main

    result = CliRunner().invoke(main.styx, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: styx {name} ")


def test_a_command_that_is_none() -> None:
    done = styx("sttus")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == "error: no command 'sttus'; did you mean: styx status\nhint: styx --help\n"
    )


def test_an_option_that_is_none() -> None:
    done = styx("run", "--nmae", "x", "true")
    assert done.returncode == 2
    assert "--nmae" in done.stderr
    assert "hint: styx run --help" in done.stderr


def test_a_group_without_its_command() -> None:
    done = styx("server")
    assert done.returncode == 2
    assert done.stderr == "error: missing command\nhint: styx server --help\n"


def test_no_server() -> None:
    done = styx("status", STYX_SERVER_URL="http://127.0.0.1:1")
    assert done.returncode == 125
    assert done.stderr.startswith(
        "error: cannot reach http://127.0.0.1:1 (connection refused)\nhint: "
    )


def test_a_wrong_configuration_is_a_usage_error() -> None:
    done = styx("status", STYX_SERVER_PORT="http")
    assert done.returncode == 2
    assert done.stderr.startswith("error: $STYX_SERVER_PORT: server.port = 'http': ")


def broken_styx(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`styx status` in an installation whose client cannot even be made."""
    (tmp_path / "sitecustomize.py").write_text(
        "import styx.sdk.address\nstyx.sdk.address.find = lambda *_: 1 / 0\n"
    )
    return styx("status", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", **env)


def test_a_bug_is_one_line(tmp_path: Path) -> None:
    done = broken_styx(tmp_path)
    assert done.returncode == 125
    assert done.stderr == (
        "error: a bug in styx: ZeroDivisionError: division by zero\n"
        "hint: STYX_DEBUG=1 shows where; please report it\n"
    )


def test_a_bug_shows_where_for_those_who_ask(tmp_path: Path) -> None:
    done = broken_styx(tmp_path, STYX_DEBUG="1")
    assert done.returncode == 125
    assert "Traceback" in done.stderr


def test_the_server_extra_is_asked_for_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "litestar.py").write_text("raise ModuleNotFoundError('gone', name='litestar')\n")
    done = styx("serve", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", STYX_HOME=str(tmp_path / "h"))
    assert done.returncode == 125
    assert done.stderr == (
        "error: this installation has no server (the package litestar is missing)\n"
        "hint: pip install 'styx[server]'\n"
    )
