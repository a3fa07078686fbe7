"""A secret on its whole way, with real processes: the task has it, and nobody else ever."""

import os
import subprocess
from pathlib import Path

from tests.support.site import STYX, Site, until

CANARY = "canary-0123456789abcdef"
TASK = 'read -r _ < "$GO"; echo "token: $TOKEN"; test ${#TOKEN} = 23'


def holding(site: Site) -> list[Path]:
    """Files of server, database and agents that hold the value; of what tasks wrote themselves we say nothing."""
    found: list[Path] = []
    for path in site.home.rglob("*"):
        if path.is_file() and path.suffix not in {".out", ".err"}:
            try:
                found += [path] if CANARY.encode() in path.read_bytes() else []
            except FileNotFoundError:  # gone meanwhile
                continue
    return found


def test_the_task_has_it_and_nobody_else(site: Site, tmp_path: Path) -> None:
    made = subprocess.run(
        [*STYX, "secret", "set", "hf-prod"],
        input=f"{CANARY}\n".encode(),
        env=site.env,
        capture_output=True,
        check=True,
    )
    assert made.stderr == b"hf-prod: set\n"
    os.mkfifo(tmp_path / "go")
    task = site.submit(run=TASK, secrets={"TOKEN": "hf-prod"}, env={"GO": str(tmp_path / "go")})
    until(lambda: site.status(task) == "running")
    assert holding(site) == []
    (tmp_path / "go").write_text("\n")
    assert site.finished(task)["status"] == "succeeded"
    assert site.cli("logs", task).stdout == b"token: " + b"*" * len(CANARY) + b"\n"
    assert holding(site) == []
    for path in ("secrets", "audit", f"tasks/{task}", f"tasks/{task}/events"):
        assert CANARY.encode() not in site.call("GET", f"/api/v1/{path}").body
    assert site.cli("secret", "list", "-o", "name").stdout == b"hf-prod\n"
    assert site.cli("secret", "delete", "hf-prod").stderr == b"hf-prod: deleted\n"


def test_a_value_for_one_run(site: Site, tmp_path: Path) -> None:
    """Of a command and of a file, in which the secret that it stands in for is not there."""
    (tmp_path / "t.yaml").write_text("run: echo $TOKEN\nsecrets: {TOKEN: nowhere}\n")
    shown = b"*" * len(CANARY) + b"\n"
    given = f"--secret=TOKEN={CANARY}"
    assert site.cli("run", given, "sh", "-c", "echo $TOKEN").stdout == shown
    assert site.cli("run", given, str(tmp_path / "t.yaml")).stdout.endswith(shown)
    assert site.cli("secret", "list", "-o", "name").stdout == b""
    assert holding(site) == []
