"""`styx schedules`, and what `submit`, `run` and `validate` make of a file with one."""

import json
from pathlib import Path

import pytest

from tests.support.site import Site

FILE = """\
name: {name}
schedule: {{cron: "0 2 * * *", timezone: Europe/Berlin}}
run: echo "for $STYX_SCHEDULED_AT"
"""


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Of a schedule that is the test's own."""
    path = tmp_path / "job.yaml"
    path.write_text(FILE.format(name=request.node.name))
    return path


def words(site: Site, *command: str, code: int = 0) -> list[str]:
    done = site.cli(*command)
    assert done.returncode == code, done.stderr
    return done.stdout.decode().splitlines()


def test_submit_show_and_list(site: Site, path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.name
    told = words(site, "submit", str(path))
    assert told[0] == name
    assert [line.split()[0] for line in told[1:]] == ["next", "then", "then"]
    assert all("02:00:00+0" in line for line in told[1:])
    assert words(site, "submit", str(path), "-o", "name") == [name]
    shown = words(site, "schedules", "show", name)
    assert shown[0] == f"{name}: 0 2 * * * Europe/Berlin, active"
    assert shown[2:5] == told[1:]
    listed = json.loads(site.cli("schedules", "-o", "json").stdout)
    row = next(row for row in listed if row["name"] == name)
    assert (row["cron"], row["status"], row["last_due_at"]) == ("0 2 * * *", "active", None)
    lines = words(site, "schedules")
    assert lines[0].split("  ")[0] == "NAME"
    assert any(line.startswith(name) and line.endswith("● active") for line in lines)


def test_pause_resume_run_and_delete(
    site: Site, path: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.name
    words(site, "submit", str(path))
    paused = site.cli("schedules", "pause", name)
    assert paused.stderr.decode().strip() == f"{name}: paused"
    resumed = site.cli("schedules", "resume", name)
    assert resumed.stderr.decode().startswith(f"{name}: active, next ")
    [job_id] = words(site, "schedules", "run", name)
    words(site, "wait", job_id)
    [line] = words(site, "logs", name)
    assert line.startswith("for 20")
    assert any(
        f"{job_id}  ✓ succeeded  asked for" in row for row in words(site, "schedules", "show", name)
    )
    assert site.cli("schedules", "delete", name).stderr.decode().strip() == f"{name}: deleted"
    gone = site.cli("schedules", "show", name)
    assert gone.returncode != 0
    assert f"there is no schedule '{name}'" in gone.stderr.decode()
    assert words(site, "jobs", "--label", f"styx.schedule={name}", "-o", "name") == [job_id]


def test_once_and_run_are_now(site: Site, path: Path, request: pytest.FixtureRequest) -> None:
    [job_id] = words(site, "submit", "--once", str(path), "--wait")
    assert site.get(f"/api/v1/jobs/{job_id}")["status"] == "succeeded"
    [line] = words(site, "run", str(path))
    assert "| for 20" in line
    assert request.node.name not in words(site, "schedules", "-o", "name")


def test_what_waits_for_a_job_wants_one_now(site: Site, path: Path) -> None:
    for option in ("--wait", "--follow", "--idempotency-key=k"):
        done = site.cli("submit", str(path), option)
        assert done.returncode == 2
        assert b"--once" in done.stderr


def test_what_is_wrong_is_told_with_its_place(site: Site, path: Path) -> None:
    path.write_text(path.read_text().replace("Berlin", "Berln"))
    for command in (("submit",), ("validate",)):
        done = site.cli(*command, str(path))
        assert done.returncode == 2
        said = (done.stderr + done.stdout).decode()
        assert f"{path}:2:" in said
        assert "did you mean 'Europe/Berlin'?" in said


def test_validate_shows_when_it_is_due(site: Site, path: Path) -> None:
    told = words(site, "validate", str(path))
    assert told[0].endswith(": accepted: job test_validate_shows_when_it_is_due, 1 task")
    assert [line.split()[0] for line in told[1:]] == ["next", "then", "then"]
    verdict = json.loads(site.cli("validate", str(path), "-o", "json").stdout)[0]
    assert [moment[11:19] for moment in verdict["upcoming"]] == ["02:00:00"] * 3
