"""What a task leaves comes back, and to the tasks that need it: real server, real agents, and what may come between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.line import Line
from tests.support.site import Site, until

SETTINGS = """
[scheduler]
retry_base_s = 0.2
retry_cap_s = 0.4
redrive_s = 0.5
"""
SWEEP = """
name: sweep
tasks:
  train:
    matrix: {{lr: [0.1, 0.2, 0.3, 0.4], seed: "0..7"}}
    parallel: 6
    run: |
      test $lr-$seed != 0.2-5 || test -e {flag}
      echo $lr,$seed >$STYX_OUTPUT_DIR/result
    outputs: true
    resources: {{cpus: 0.1}}
  report:
    needs: [train]
    run: |
      cd $STYX_INPUT_DIR/train
      for each in *; do echo $each,$(cat $each/result); done | sort -n >$STYX_OUTPUT_DIR/all
    outputs: true
"""
ALL = [f"{n},{0.1 * (1 + n // 8):.1f},{n % 8}" for n in range(32)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("outputs"), SETTINGS)
    try:
        made.start()
        made.agent("one")
        yield made
    finally:
        made.close()


def test_a_report_reads_what_a_sweep_has_left(site: Site, tmp_path: Path) -> None:
    """One of 32 fails at first: only that and the report are tried again, and the report is given all."""
    flag = tmp_path / "flag"
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(flag=flag))
    done = site.cli("submit", str(tmp_path / "sweep.yaml"))
    assert done.returncode == 0, done.stderr
    first = site.job_finished(done.stdout.decode().strip())
    assert first["counts"] == {"succeeded": 31, "failed": 1, "skipped": 1}
    flag.write_text("")
    second = site.post(f"/api/v1/jobs/{first['id']}/retry")["job_id"]
    assert site.job_finished(second)["counts"] == {"succeeded": 2}
    brought = site.cli("outputs", "report", str(tmp_path / "out"))
    assert brought.returncode == 0, brought.stderr
    assert (tmp_path / "out" / "all").read_text().split() == ALL
    listed = site.cli("outputs", first["id"], "-o", "name").stdout.split()
    assert listed == [b"result"] * 31


def test_bringing_them_overwrites_nothing(site: Site, tmp_path: Path) -> None:
    task = site.submit(
        name="left", run="echo new >$STYX_OUTPUT_DIR/a; mkdir e; echo >e/x", outputs=["e/*"]
    )
    assert site.finished(task)["status"] == "succeeded"
    (tmp_path / "a").write_text("old")
    done = site.cli("outputs", task, str(tmp_path))
    assert done.returncode != 0
    assert b"has a already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"], "nothing else of it either"
    assert site.cli("outputs", task, str(tmp_path), "--force").returncode == 0
    assert (tmp_path / "a").read_text() == "new\n"
    assert (tmp_path / "e" / "x").exists()


@pytest.mark.parametrize(
    ("script", "outputs", "why"),
    [
        ("true", ["nosuch"], "there is no nosuch"),
        ("ln -s /etc/passwd $STYX_OUTPUT_DIR/p", True, "is a link to /etc/passwd"),
    ],
)
def test_what_cannot_be_brought_fails_the_task(
    site: Site, script: str, outputs: Any, why: str
) -> None:
    task = site.finished(site.submit(run=script, outputs=outputs))
    assert (task["status"], task["reason"], task["attempt"]) == ("failed", "outputs", 1)
    assert why in task["detail"]
    assert site.call("GET", f"/api/v1/tasks/{task['id']}/outputs").status == 404


def test_what_is_taken_from_an_earlier_task_has_its_outputs(site: Site) -> None:
    spec = {"run": "date +%N >$STYX_OUTPUT_DIR/now", "outputs": True, "cache": True}
    first, second = (site.finished(site.submit(**spec))["id"] for _ in range(2))
    assert site.task(second)["taken_from"] == first
    assert site.get(f"/api/v1/tasks/{second}/outputs") == site.get(f"/api/v1/tasks/{first}/outputs")


@pytest.fixture
def line(own: Site) -> Iterator[Line]:
    """To a site whose agent is behind it, and whose outputs wait there."""
    own.settings = SETTINGS
    own.start()
    made = Line(own.port, b"POST /api/v1/bundles")
    token = (own.home / "token").read_text().strip()
    own.agent("far", "--server", made.url, "--token", token)
    yield made
    made.open()
    made.close()


def test_a_link_that_dies_on_the_way_brings_them_again(
    own: Site, line: Line, tmp_path: Path
) -> None:
    script = f"echo ran >>{tmp_path}/ran; echo well >$STYX_OUTPUT_DIR/done"
    task = own.submit(run=script, outputs=True)
    assert line.held.wait(60)
    assert own.status(task) == "running", "until they are there"
    own.agents["far"].kill_link()
    line.open()
    own.agents["far"].restart()
    assert own.finished(task)["status"] == "succeeded"
    assert [file["path"] for file in own.get(f"/api/v1/tasks/{task}/outputs")["files"]] == ["done"]
    assert (tmp_path / "ran").read_text() == "ran\n"
    jobs = own.agents["far"].home / "jobs"
    until(lambda: not list(jobs.glob("*/.out-*")), "what was brought is removed")


def test_a_cancel_on_the_way_ends_it(own: Site, line: Line) -> None:
    task = own.submit(run="true", outputs=True)
    assert line.held.wait(60)
    own.post(f"/api/v1/tasks/{task}/cancel")
    assert own.finished(task)["status"] == "cancelled"
