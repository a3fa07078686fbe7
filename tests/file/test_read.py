"""Task files: what is read, and where an error is said to stand."""

import re
from pathlib import Path

import pytest

from styx.errors import FieldError, InvalidSpec
from styx.file import read as files
from styx.file import yaml_text
from styx.file.document import Document


def read(tmp_path: Path, text: str | bytes, name: str = "job.yaml") -> Document:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return files.read(str(path))


def refusal(tmp_path: Path, text: str | bytes, name: str = "job.yaml") -> str:
    """The message, without the directory."""
    with pytest.raises(InvalidSpec) as caught:
        read(tmp_path, text, name)
    return caught.value.message.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-4", 1e-4), ("1.5", 1.5), (".5", 0.5), ("1E3", 1e3), ("-.inf", float("-inf")), ("1.", 1.0),
        ("12", 12), ("-3", -3), ("017", 17), ("0o17", 15), ("0x1F", 31),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("y", "y"), ("12:30", "12:30"), ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"), ("1.2.3", "1.2.3"), ("e5", "e5"), ('"12"', "12"), ("0b1", "0b1"),
        ("=", "="), (".", "."), ("-", "-"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, scalar: str, value: object) -> None:
    if scalar == "-":
        scalar = "'-'"
    found = read(tmp_path, f"x: {scalar}\n").content["x"]
    assert (found, type(found)) == (value, type(value))


def test_on_is_a_key_and_a_word(tmp_path: Path) -> None:
    content = read(tmp_path, "needs: [{task: a, on: done}]\n").content
    assert content == {"needs": [{"task": "a", "on": "done"}]}


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = "tasks:\n  a: &a {run: x, retries: 1}\n  b: {<<: *a, retries: 2}\n"
    assert read(tmp_path, text).content["tasks"]["b"] == {"run": "x", "retries": 2}


def test_toml_and_json(tmp_path: Path) -> None:
    expected = {"tasks": {"a": {"run": "x", "timeout": 1.5}}}
    toml = "[tasks.a]\nrun = 'x'\ntimeout = 1.5\n"
    assert read(tmp_path, toml, "job.toml").content == expected
    json = '{"tasks": {"a": {"run": "x", "timeout": 1.5}}}'
    assert read(tmp_path, json, "job.json").content == expected
    assert read(tmp_path, json).content == expected, "JSON is YAML, too"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfrun: x\n").content == {"run": "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "job.yaml:2:2: not YAML: did not find expected ',' or ']'"),
        ("run: x\nname: y\nrun: z\n", "job.yaml:3:1: 'run' is given twice"),
        ("a: *nothing\n", "job.yaml:1:4: not YAML: found undefined alias"),
        ("a: &a [*a]\n", "job.yaml:1:4: a[0] contains itself"),
        ("a: 1\n---\nb: 2\n", "job.yaml:3:1: a second document: a file of Styx holds one"),
        ("a: !!python/object:os.system x\n", "job.yaml:1:4: not YAML: could not determine"),
        ("- run: x\n", "job.yaml: expected one task, or a job with `tasks`"),
        ("", "job.yaml: expected one task, or a job with `tasks`"),
        ("just words\n", "job.yaml: expected one task, or a job with `tasks`"),
        (b"\xff\xfe", "job.yaml: not text in UTF-8 (byte 0)"),
        ("a: \x00\n", "job.yaml: not YAML: "),
        ("x: " + "9" * 5_000, "job.yaml: not YAML: "),
    ],
)
def test_what_is_no_document(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refusal(tmp_path, text).startswith(message)


def test_a_document_that_is_too_deep(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[" * 50_000)
    # The parser in C has its own limit, the one in Python that of the interpreter.
    assert re.search("nested too deeply|exceeded maximum nesting depth", message)


def test_a_few_lines_of_aliases_are_not_billions_of_values(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "stands for more than 5,000,000 values" in refusal(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "run": }', "job.json:2:10: not JSON: "),
        ('{"run": "x"', "job.json:1:12: not JSON: "),
        ("[" * 50_000, "job.json: nested too deeply"),
        ('{"a": NaN}', "job.json: not JSON: NaN is no number of JSON"),
        ('{"a": {"run": 1, "b": {},\n "run": 2}}', "job.json:2:2: 'run' is given twice"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text, "job.json").startswith(message)


def test_what_is_no_toml(tmp_path: Path) -> None:
    assert refusal(tmp_path, "run = \n", "job.toml").startswith("job.toml:1:7: not TOML: ")
    assert refusal(tmp_path, "a = 1\nb = [1", "job.toml").startswith("job.toml:2:7: not TOML: ")
    twice = refusal(tmp_path, "[a]\nx = 1\nx = 2\n", "job.toml")
    assert twice == "job.toml:3:6: not TOML: Cannot overwrite a value"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InvalidSpec, match=r"/nowhere/job\.yaml: No such file or directory"):
        files.read("/nowhere/job.yaml")


JOB = """\
name: two
tasks:
  a:
    run: x
    resources:
      gpu: 1
  b: {run: y, needs: [a, {task: c}]}
"""


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("tasks.a.resources.gpu", "6:7"),
        ("tasks.b.needs[1].task", "7:27"),
        ("tasks.b.needs[0]", "7:23"),
        ("tasks.a.command", "3:3"),  # missing: where it should be
        ("tasks.a.resources.labels.x", "5:5"),
        ("nmae", "1:1"),
        ("", "1:1"),
    ],
)
def test_a_refused_field_is_found(tmp_path: Path, path: str, where: str) -> None:
    file = read(tmp_path, JOB)
    located = file.located(InvalidSpec("refused", FieldError(path, "wrong")))
    place = f"{file.name}:{where}" if where else file.name
    assert located.message == (f"{place}: {path}: wrong" if path else f"{place}: wrong")


@pytest.mark.parametrize("path", ["tasks.", "tasks.a.", ".", "[", "a[x", "tasks.a[]\n", "a\n"])
def test_a_path_of_odd_keys_is_found_somewhere(tmp_path: Path, path: str) -> None:
    file = read(tmp_path, JOB)
    assert file.where(path) in {f"{file.name}:{place}" for place in ("1:1", "2:1", "3:3")}


def test_a_refusal_without_fields_keeps_its_words(tmp_path: Path) -> None:
    file = read(tmp_path, JOB)
    assert file.located(InvalidSpec("too large")).message == f"{file.name}: too large"


JSON = """\
{"name": "two\\"[,",
 "tasks": [
   {"run": "a", "needs": [], "env": {}},
   {"run": "b",
    "needs": ["x",
      {"task": "a"}], "retries": -1}]}
"""
TOML = r'''
name = "two" # [not.a.table]
notes = """
[tasks.x]
a "quoted" end\""""
more = 'run = "1'

[tasks.a]
run = 'x # y'
needs = [ # the list
  "b",
  { task = "c", on = "done" },
  ["d"]
]
env."A.B" = 1
resources = { cpus = 1, labels = { zone = "a" } }
when = 2026-01-31T10:00:00Z

[[tasks.b.steps]]
run = "1"
[[tasks.b.steps]]
run = "2"
[tasks.b.steps.more]
x = [1, 2]
'''


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("name", "1:2"),
        ("tasks", "2:2"),
        ("tasks[0]", "3:4"),
        ("tasks[0].env", "3:30"),
        ("tasks[1].needs[0]", "5:15"),
        ("tasks[1].needs[1].task", "6:8"),
        ("tasks[1].retries", "6:23"),
        ("tasks[1].nothing", "4:4"),
    ],
)
def test_a_field_of_json_is_found(tmp_path: Path, path: str, where: str) -> None:
    file = read(tmp_path, JSON, "job.json")
    assert file.where(path) == f"{file.name}:{where}"


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("name", "2:1"),
        ("notes", "3:1"),
        ("more", "6:1"),
        ("tasks.a", "8:1"),
        ("tasks.a.run", "9:1"),
        ("tasks.a.needs[0]", "11:3"),
        ("tasks.a.needs[1].on", "12:17"),
        ("tasks.a.needs[2][0]", "13:4"),
        ("tasks.a.env.A.B", "15:5"),
        ("tasks.a.resources.labels.zone", "16:36"),
        ("tasks.a.when", "17:1"),
        ("tasks.b.steps[0].run", "20:1"),
        ("tasks.b.steps[1]", "21:1"),
        ("tasks.b.steps[1].run", "22:1"),
        ("tasks.b.steps[1].more.x[1]", "24:9"),
        ("tasks.a.retries", "8:1"),
    ],
)
def test_a_field_of_toml_is_found(tmp_path: Path, path: str, where: str) -> None:
    file = read(tmp_path, TOML, "job.toml")
    assert file.where(path) == f"{file.name}:{where}"


def test_several_documents_are_for_who_asks_for_them() -> None:
    found = files.documents(files.Source("x.yaml", "a: 1\n---\nb: 2\n---\n"))
    assert [document.content for document in found] == [{"a": 1}, {"b": 2}, None]
    assert found[1].where("b") == "x.yaml:3:1"


def test_scalars_of_yaml_1_1() -> None:
    text = "a: yes\nb: 1e-4\nc: 017\nd: on\n"
    assert yaml_text.parse("x", text, old=True)[0].content == {
        "a": True, "b": "1e-4", "c": 15, "d": True,
    }  # fmt: skip
    assert yaml_text.parse("x", text)[0].content == {"a": "yes", "b": 1e-4, "c": 17, "d": "on"}
