"""Files of tasks, Styx's own and SkyPilot's, on a server with an agent."""

from pathlib import Path

import pytest

from tests.support.site import Site

SKY = """\
name: first
resources: {cpus: 0.1, infra: k8s}
envs: {WHO: null}
setup: |
  false
  echo "setup on $SKYPILOT_SETUP_NODE_RANK of $SKYPILOT_NUM_NODES"
run: |
  false
  echo "hello $WHO${UNSET}"
  exit 3
"""


def test_a_file_of_skypilot_runs_as_it_is(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "sky.yaml"
    path.write_text(SKY)
    done = site.cli("run", "--env", "WHO=you", str(path))
    assert (done.stdout, done.returncode) == (b"first | setup on 0 of 1\nfirst | hello you\n", 3)
    said, warning = done.stderr.decode().splitlines()[:2]
    assert said == f"{path} is read as a file of SkyPilot's"
    assert warning.startswith(f"warning: {path}:2:24: resources.infra: it runs on")


def test_what_would_change_its_meaning_submits_nothing(site: Site, tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text(f"{SKY}volumes: {{/a: v}}\n")
    before = site.cli("jobs", "-o", "name").stdout
    done = site.cli("submit", str(tmp_path / "sky.yaml"), "-e", "WHO=you")
    assert done.returncode == 2
    assert f"error: {tmp_path}/sky.yaml:11:1: volumes: no volumes are" in done.stderr.decode()
    assert site.cli("jobs", "-o", "name").stdout == before


def test_a_pipeline_of_skypilot_is_one_job(site: Site, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: p\n---\nname: a\nrun: echo a\n---\nname: b\nrun: echo b\n"
    )
    done = site.cli("run", str(tmp_path / "p.yaml"))
    # Each task's output is followed by itself: which of two short ones is heard of first is chance.
    assert (sorted(done.stdout.splitlines()), done.returncode) == ([b"a | a", b"b | b"], 0)


def test_read_as_skypilot_does(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("run: |\n  false\n  echo on\n")
    assert site.cli("run", str(tmp_path / "x.yaml")).returncode == 1
    done = site.cli("submit", "--sky", "--follow", str(tmp_path / "x.yaml"))
    assert (done.stdout, done.returncode) == (b"task | on\n", 0)


def test_defaults_and_a_matrix(site: Site, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "resources: {cpus: 0.1}\nrun: echo $lr/$seed/$WHO\n"
        "tasks: {sweep: {matrix: {lr: [1e-4, x], seed: 0..1}}}\n"
    )
    done = site.cli("run", "-e", "WHO=me", str(tmp_path / "sweep.yaml"))
    assert sorted(done.stdout.splitlines()) == [
        b"sweep/0 | 0.0001/0/me", b"sweep/1 | 0.0001/1/me",
        b"sweep/2 | x/0/me", b"sweep/3 | x/1/me",
    ]  # fmt: skip


def test_a_refusal_of_the_server_stands_in_the_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('retries = -1\n[tasks.a]\nrun = "x"\n')
    done = site.cli("submit", str(tmp_path / "x.toml"))
    assert done.returncode == 2
    assert done.stderr.decode().startswith(
        f"error: {tmp_path}/x.toml:1:1: retries: expected a whole"
    )


def test_files_go_where_they_are_wanted(site: Site, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("a\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x\n")
    (tmp_path / "one.txt").write_text("one\n")
    away = tmp_path / "away"
    (tmp_path / "job.yaml").write_text(
        f"name: files\nworkdir: src\nfiles: {{data/in: data, {away}/: one.txt, {away}/b: ./data}}\n"
        f"run: cat a data/in/x {away}/one.txt {away}/b/x\n"
    )
    done = site.cli("run", str(tmp_path / "job.yaml"))
    assert (done.stdout, done.returncode) == (b"files | a\nfiles | x\nfiles | one\nfiles | x\n", 0)


def test_files_beside_a_directory_of_the_agent_go_into_it(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("one\n")
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "job.yaml").write_text(
        f"name: beside\nworkdir: {there}\nfiles: {{one: one.txt}}\nrun: pwd; cat one\n"
    )
    done = site.cli("run", str(tmp_path / "job.yaml"))
    assert done.stdout.decode() == f"beside | {there}\nbeside | one\n"


def test_a_file_of_skypilot_with_its_directory(site: Site, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a").write_text("a\n")
    (tmp_path / "sky.yaml").write_text(
        f"name: sky\nworkdir: .\nfile_mounts: {{{tmp_path}/made/x: ./a}}\nsetup: 'true'\n"
        f"run: cat a {tmp_path}/made/x\n"
    )
    # SkyPilot's paths begin where the user stands.
    done = site.cli("run", str(tmp_path / "sky.yaml"), cwd=tmp_path / "code")
    assert (done.stdout, done.returncode) == (b"sky | a\nsky | a\n", 0)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("files: {../x: a}", "2:9: files.../x", "lies in the work directory"),
        ("files: {x: nothing}", "2:9: files.x", "nothing: No such file"),
        ("files: {x: 'ftp://a/b'}", "2:9: files.x", "expected s3://bucket/key"),
        ("files: {x: 7}", "2:9: files.x", "expected a bucket or web address"),
        ("workdir: nothing", "2:1: workdir", "nothing: No such file"),
        ("workdir: 7", "2:1: workdir", "expected text"),
        ("files: x", "2:1: files", "expected an object of destinations"),
    ],
)
def test_what_cannot_be_sent_is_told_with_its_place(
    site: Site, tmp_path: Path, text: str, place: str, message: str
) -> None:
    (tmp_path / "job.yaml").write_text(f"run: x\n{text}\n")
    (tmp_path / "a").write_text("")
    for command in ("submit", "validate"):
        done = site.cli(command, str(tmp_path / "job.yaml"))
        said = (done.stderr + done.stdout).decode()
        assert done.returncode == 2
        assert f"{tmp_path}/job.yaml:{place}: " in said
        assert message in said


def test_files_from_afar_are_there_when_the_task_starts(site: Site, tmp_path: Path) -> None:
    """The server itself stands in for the web."""
    server = f"http://127.0.0.1:{site.port}"
    url = f"{server}/schema/openapi.json"
    (tmp_path / "far.yaml").write_text(
        f"name: far\nrun: head -c 1 page; head -c 1 data/openapi.json\nfiles: {{page: '{url}', data/: '{url}'}}\n"
        f"resources: {{cpus: 0.1}}\n"
    )
    done = site.cli("run", str(tmp_path / "far.yaml"))
    assert (done.stdout, done.returncode) == (b"far | {{\n", 0)
    (tmp_path / "none.yaml").write_text(f"run: 'true'\nfiles: {{page: '{server}/none'}}\n")
    done = site.cli("run", str(tmp_path / "none.yaml"))
    assert done.returncode != 0
    assert b"/none answers 404" in done.stderr
