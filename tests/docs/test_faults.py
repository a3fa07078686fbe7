"""What a page can do wrong is found, and named by page and line."""

from pathlib import Path

import psutil
import pytest

from tests.docs import excused, expect, wire
from tests.docs.block import blocks
from tests.docs.page import Page


def go(text: str, folder: Path) -> None:
    Page([*blocks("x.md", text)], folder).run()


WRONG = {
    "a block of no kind": ("```\nls\n```", "x.md:2: say what this block is"),
    "a kind that nobody knows": ("```perl\n1\n```", "x.md:2: say what this block is"),
    "a mark that nobody knows": ("```bash often\n```", "x.md:1: no such mark: often"),
    "a mark of another kind": ("```console terminal\n$ ls\n```", "x.md:1: no such mark: terminal"),
    "a block without end": ("text\n\n~~~bash\nls\n```", "x.md:3: this block has no end"),
    "a command that fails": ("```bash\ntrue\nls nowhere\n```", "x.md:3: exit 2: ls nowhere"),
    "a variable that is not there": ("```bash\n:\necho $NO\n```", "x.md: line 3: NO: unbound"),
    "another output": ("```console\n$ echo a\nb\n```", "x.md:2: prints something else\n"),
    "more output": ("```console\n$ echo a; echo b\na\n```", "x.md:2: prints something else\n"),
    "a failure not told": ("```console\n$ echo a\na\n$ false\n```", "x.md:4: exit 1, and no `echo"),
    "output without a command": ("```console\na\n```", "x.md:2: a console begins with"),
    "Python that fails": ("\n```python\n\n1 / 0\n```", 'File "x.md", line 4'),
    "a task with a wrong field": ("```yaml\nrun: x\nretris: 1\n```", "x.md:3:1: retris: no such"),
    "a file with a wrong field": ("`a.yaml`:\n\n```yaml\nrun: 1\n```", "x.md:4:1: run: expected"),
    "what should be refused": ("```yaml refused\nrun: x\n```", "x.md:2: should be refused"),
    "a simulation": ("```toml\nagents = []\nworkloads = []\n```", "x.md:2: agents: missing"),
    "a setting": ("```toml\n[server]\nprt = 1\n```", "server.prt"),
    "JSON of nobody": ('```json\n{"a": 1}\n```', "x.md:2:2: a: no such key"),
    "another answer": (
        '```bash\necho \'{"a": 1}\'\n```\n```json\n{"a": 2}\n```',
        "x.md:5: the answer is another\n$.a: 1 is not 2",
    ),
    "JSON behind something else": (
        '```bash\necho \'{"a": 1}\'\n```\n```text\n```\n```json\n{"a": 1}\n```',
        "x.md:7:2: a: no such key",
    ),
    "a script that is none": ("`a.sh`:\n```bash\nif\n```", "x.md:3: "),
    "a program that is none": ("```python title=a.py\nif\n```", "invalid syntax (x.md, line 2)"),
    "a body of nobody": ('```http\nPOST /hook\n\n{"a": 1}\n```', "x.md:2: none of our bodies"),
    "nobody who answers": ("```http\nGET /health\n```", "x.md:2: answered by nobody"),
    "a terminal that ends": ("```bash terminal\nexit 3\n```", "x.md:2: exit 3: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    text, complaint = WRONG[name]
    with pytest.raises((AssertionError, SyntaxError)) as told:
        go(text, tmp_path)
    assert complaint in str(told.value)


def test_a_page_is_gone_through_as_a_reader_would(tmp_path: Path) -> None:
    go(
        """\
Shell variables and directories stay, and `run.sh`:

```bash
#!/bin/sh
echo "$1" and "$2"
```
```bash
mkdir deep && cd deep
word=hidden
export SEEN=seen
```
```console
$ ../run.sh "$word" \\
    $SEEN
hidden … seen
$ sh -c 'echo no >&2; exit 3'
no
$ echo $?
3
```
~~~toml
# two.toml
run = "x"
~~~
1. In a list:

   ```python
   number = 6
   ```
   ```python title=a/three.py
   print(number)
   ```
   ```python
   assert number == 6
   ```
```console
$ cat ../two.toml ../a/three.py
# two.toml
…
print(number)
```
""",
        tmp_path,
    )


def test_the_processes_of_a_page_end_with_it(tmp_path: Path) -> None:
    go(
        "```bash\nsleep 1000 & echo $! > pid\n```\n```bash terminal\necho; sleep 1000\n```",
        tmp_path,
    )
    pid = (tmp_path / "home" / "styx" / "pid").read_text().strip()
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie"


def test_an_excuse_that_nothing_needs_is_told() -> None:
    assert excused.idle([]) == [*excused.EXCUSED]


@pytest.mark.parametrize(
    ("wanted", "printed", "same"),
    [
        ("a  b", "a b\n", True),
        ("a … c", "a b c\n", True),
        ("a … c", "a b d\n", False),
        ("a\n…", "a\n", True),
        ("a\n…\nd", "a\nb\nc\nd\n", True),
        ("…\nd", "d\ne\n", False),
        ("a", "a\n\n", False),
        ("", "", True),
        ("", "a\n", False),
    ],
)
def test_lines(wanted: str, printed: str, same: bool) -> None:
    assert (expect.differences(wanted, printed) == "") is same


@pytest.mark.parametrize(
    ("content", "known"),
    [
        ({"task_id": "…", "status": "submitted"}, True),
        ({"task_id": "…", "status": "sent"}, False),
        ({"task_id": "…"}, False),
        ({"task_id": "…", "…": "…"}, True),
        ({"task_id": "…", "status": "submitted", "colour": 1}, False),
        ({"nodes": [{"name": "a", "…": "…"}], "edges": []}, True),
        ({"nodes": [{"nome": "a", "…": "…"}], "edges": []}, False),
        ({"id": "x", "counts": {"failed": 1}, "finished_at": "…", "…": "…"}, True),
        ({"id": "x", "counts": {"failed": "one"}, "…": "…"}, False),
        ({"…": "…"}, False),
        ([], False),
    ],
)
def test_what_the_wire_knows(content: object, known: bool) -> None:
    assert wire.knows(content) is known


@pytest.mark.parametrize(
    ("wanted", "answer", "told"),
    [
        ({"a": "…", "b": [1]}, {"a": 7, "b": [1]}, []),
        ({"a": 1, "…": "…"}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": 1, "b": 2}, ["$.b: the page does not show it"]),
        ({"a": {"b": "x…"}}, {"a": {"b": "y"}}, ["$.a.b: 'y' is not 'x…'"]),
        ({"a": 1}, {}, ["$.a: is not in the answer"]),
        ([1, "…"], [1, 2, 3], []),
        ([1], [1, 2], ["$: 2 items, not 1"]),
        ([{"a": 1}], [{"a": "1"}], ["$[0].a: '1' is not 1"]),
    ],
)
def test_json(wanted: object, answer: object, told: list[str]) -> None:
    assert [*expect.unlike(wanted, answer)] == told
