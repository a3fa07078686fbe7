"""`cache`, as the command line tells it."""

from pathlib import Path

from tests.support.site import Site


def test_the_second_run_prints_what_the_first_did(site: Site, tmp_path: Path) -> None:
    command = ("sh", "-c", f"echo out; echo err >&2; echo x >> {tmp_path}/runs")
    first = site.cli("run", "--cache", "--name", "once", *command)
    again = site.cli("run", "--cache", "--name", "again", *command)
    assert (first.stdout, first.stderr) == (b"out\n", b"err\n")
    assert (again.stdout, again.returncode) == (b"out\n", 0)
    said = again.stderr.decode().splitlines()
    assert said[0] == "err"
    assert said[1].startswith("again did not run again: this is the output of ")
    assert (tmp_path / "runs").read_text() == "x\n"
    site.cli("run", *command)
    assert (tmp_path / "runs").read_text() == "x\nx\n"


def test_a_file_of_which_half_is_known(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    text = "name: sweep\ncache: true\nrun: echo $A >> {}/runs\nmatrix: {{A: [{}]}}\n"
    path.write_text(text.format(tmp_path, "1, 2"))
    assert site.cli("run", str(path)).returncode == 0
    path.write_text(text.format(tmp_path, "2, 3"))
    done = site.cli("run", str(path))
    assert done.stderr.decode() == "1 of 2 tasks did not run again: they succeeded before\n"
    assert sorted((tmp_path / "runs").read_text().split()) == ["1", "2", "3"]
    plan = site.cli("submit", "--plan", str(path))
    assert plan.stderr.decode().startswith("2 tasks: 2 are taken from earlier ones ·")
    assert site.cli("submit", "--no-cache", "--wait", str(path)).returncode == 0
    assert sorted((tmp_path / "runs").read_text().split()) == ["1", "2", "2", "3", "3"]
