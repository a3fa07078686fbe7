"""`styx import sky`: what it writes is a file of Styx that says the same."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from styx.cli import files, main
from styx.errors import InvalidSpec
from styx.file import job, read, yaml_text, yaml_write

TASK = """\
name: train
resources: {infra: aws, accelerators: "A100:8"}
envs: {A: yes, B: "1e-4", C: "12:30", D: "no"}
setup: |
  pip install x
run: |
  echo "a: b"   # trailing
  ./train
"""


def styx(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main.styx, list(words), standalone_mode=False, input=stdin)


def written(path: Path, *words: str) -> str:
    return styx("import", "sky", str(path), *words).stdout


def test_the_rewritten_file_is_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text(TASK)
    (tmp_path / "ours.yaml").write_text(written(tmp_path / "sky.yaml"))
    sky = files.load(str(tmp_path / "sky.yaml"), env={}).job.check()
    ours = files.load(str(tmp_path / "ours.yaml"), env={})
    assert ours.warnings == ()
    assert ours.job.check() == sky


def test_a_pipeline_is_rewritten_as_a_job(tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text("name: p\n---\nname: a\nrun: x\n---\nname: b\nrun: y\n")
    (tmp_path / "ours.yaml").write_text(written(tmp_path / "sky.yaml"))
    ours = files.load(str(tmp_path / "ours.yaml"), env={}).job
    assert ours.check() == files.load(str(tmp_path / "sky.yaml"), env={}).job.check()
    assert list(ours.body["tasks"]) == ["a", "b"]


def test_a_header_over_one_task_names_the_job(tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text("name: p\n---\nname: a\nrun: x\n")
    (tmp_path / "ours.yaml").write_text(written(tmp_path / "sky.yaml"))
    spec = files.load(str(tmp_path / "ours.yaml"), env={}).job.check()
    assert (spec.name, spec.tasks[0].name) == ("p", "a")


def test_what_was_left_out_stands_at_its_head(tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text(f"{TASK}volumes: {{/a: v}}\n")
    done = styx("import", "sky", str(tmp_path / "sky.yaml"))
    head = done.stdout.split("\n\n")[0].splitlines()
    assert head[:2] == [
        "# From sky.yaml, by `styx import sky`.",
        "# Without this it is not the same task:",
    ]
    assert head[2].startswith("# - 9:1: volumes: no volumes are mounted")
    assert "# Left out:" in head
    assert done.return_value == 1
    assert f"warning: {tmp_path}/sky.yaml:2:13: resources.infra: " in done.stderr


def test_what_styx_does_not_understand_yet_is_carried_and_refused_there(tmp_path: Path) -> None:
    (tmp_path / "sky.yaml").write_text(
        "run: x\nenvs: {A: null}\nfile_mounts: {/a: cos://b}\nsecrets: {T: null}\n"
        "resources: {image_id: 'docker:ubuntu'}\nworkdir: code\n"
    )
    (tmp_path / "ours.yaml").write_text(written(tmp_path / "sky.yaml"))
    with pytest.raises(InvalidSpec) as caught:
        files.load(str(tmp_path / "ours.yaml"), env={}).job.check()
    refused = {error.path.rpartition(" ")[2] for error in caught.value.errors}
    assert refused == {"files./a", "env.A", "workdir"}  # a secret is one of ours


def test_several_files_go_into_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yml").write_text("run: x\n")
    Path("b.yaml").write_text("nothing: x\n")
    done = styx("import", "sky", "a.yml", "b.yaml", "--to", "out")
    assert (done.return_value, done.stdout) == (2, "out/a.yaml\n")
    assert "b.yaml:1:1: nothing: SkyPilot knows no such key" in done.stderr
    assert Path("out/a.yaml").read_text().endswith("\n  x\n")
    assert not Path("out/b.yaml").exists()


def test_no_file_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("run: x\n")
    done = styx("import", "sky", "a.yaml", "--to", ".")
    assert isinstance(done.exception, InvalidSpec)
    assert done.exception.message == "a.yaml: File exists"
    assert Path("a.yaml").read_text() == "run: x\n"


def test_standard_input_and_variables() -> None:
    done = styx("import", "sky", "-", "-e", "A=1", stdin="run: x\nenvs: {A: null}\n")
    assert done.return_value == 0
    assert done.stdout.startswith("# From stdin, by")
    assert "A: '1'" in done.stdout


@pytest.mark.parametrize("words", [("a", "b"), ("x/a", "y/a", "--to", "z")])
def test_where_the_files_would_go_must_be_clear(words: tuple[str, ...]) -> None:
    assert styx("import", "sky", *words).exception


@given(st.dictionaries(st.from_regex("[A-Z]{1,4}", fullmatch=True), st.text(), max_size=4))
def test_what_is_written_reads_back_in_either_yaml(env: dict[str, str]) -> None:
    try:
        text = yaml_write.write({"run": "x", "env": env}) + "\n"
        assert yaml_text.parse("x", text)[0].content == {"run": "x", "env": env}
        assert yaml_text.parse("x", text, old=True)[0].content == {"run": "x", "env": env}
    except UnicodeEncodeError:
        assert any("\ud800" <= c <= "\udfff" for value in env.values() for c in value)


@pytest.mark.parametrize(
    "text", ["\x85", "a\n\u2028b\n", "\ufeffx", "a\r\nb", "\ta\n\n", " a\n b \n"]
)
def test_odd_ends_of_lines_are_kept(text: str) -> None:
    written = yaml_write.write({"a": text}) + "\n"
    for old in (True, False):
        assert yaml_text.parse("x", written, old=old)[0].content == {"a": text}


def test_numbers_in_quotes_stay_text() -> None:
    text = yaml_write.write({"a": "0o17", "b": "017", "c": "1e-4", "d": "on", "e": 1, "f": True})
    assert text == "a: '0o17'\nb: '017'\nc: '1e-4'\nd: 'on'\ne: 1\nf: true"
    again = job.of(read.only(read.documents(read.Source("x", text)), expected="", example=""))
    assert again.body["tasks"][0]["a"] == "0o17"
