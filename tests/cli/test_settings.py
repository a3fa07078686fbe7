"""`styx config show` and `styx completion`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from styx.config import KEYS
from tests.support.site import ROOT, Site


def styx(tmp_path: Path, *words: str, **env: str) -> str:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("STYX_") and k != "DATABASE_URL"
    }
    done = subprocess.run(
        [sys.executable, "-m", "styx", *words],
        env=kept | {"PYTHONPATH": str(ROOT), "STYX_HOME": str(tmp_path)} | env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_every_key_with_its_origin(tmp_path: Path) -> None:
    (tmp_path / "styx.toml").write_text("[server]\nport = 81\n")
    shown = json.loads(styx(tmp_path, "config", "show", "-o", "json", STYX_LOG_LEVEL="debug"))
    assert [row["key"] for row in shown] == list(KEYS)
    told = {row["key"]: (row["value"], row["origin"]) for row in shown}
    assert told["server.port"] == (81, f"{tmp_path}/styx.toml")
    assert told["logs.level"] == ("debug", "$STYX_LOG_LEVEL")
    assert told["home"] == (str(tmp_path), "$STYX_HOME")
    assert told["server.host"] == ("127.0.0.1", "default")


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_secrets_are_masked(tmp_path: Path, output: str) -> None:
    env = {
        "STYX_TOKEN": "styx_s3cret",
        "DATABASE_URL": "postgres://me:s3cret@db:5432/styx?password=s3cret",
        "STYX_WEBHOOK_SECRET": "whsec_s3cret",
    }
    (tmp_path / "styx.toml").write_text('[webhooks]\nurls = ["https://example.org/s3cret"]\n')
    shown = styx(tmp_path, "config", "show", "-o", output, **env)
    assert "s3cret" not in shown
    assert "postgres://me:********@db:5432/styx" in shown
    assert "https://example.org/********" in shown


def test_a_file_by_flag(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nport = 82\n")
    shown = styx(tmp_path, "config", "show", "--config", "other.toml", "-o", "json")
    assert next(row for row in json.loads(shown) if row["key"] == "server.port")["value"] == 82


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_that_shell(tmp_path: Path, shell: str) -> None:
    script = styx(tmp_path, "completion", shell)
    assert "_STYX_COMPLETE" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def completed(site: Site, line: str) -> list[str]:
    """What bash would offer at the end of the line."""
    words = line.split(" ")
    done = site.cli(_STYX_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    offers = filter(None, done.stdout.decode().splitlines())
    return [offer.split(",", 1)[1] for offer in offers]


def test_commands_and_options_complete(site: Site) -> None:
    assert completed(site, "styx sub") == ["submit"]
    assert "--retries" in completed(site, "styx run --re")
    assert completed(site, "styx tasks --status qu") == ["queued"]


def test_ids_and_agents_complete_live(site: Site) -> None:
    task_id = site.submit(command="true")
    assert task_id in completed(site, "styx logs ")
    assert completed(site, f"styx explain {task_id}") == [task_id]
    assert completed(site, "styx drain so") == ["solo"]


def test_no_server_completes_nothing(tmp_path: Path) -> None:
    gone = Site(tmp_path)
    tmp_path.joinpath("test.toml").touch()
    assert completed(gone, "styx logs ") == []
