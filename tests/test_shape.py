"""The rules of the house that no linter knows, each shown to be able to fail.

A rule is a checker, from a module's syntax tree to its offences. The same checkers run over `styx/`
and over a snippet that breaks the rule.
"""

import ast
import importlib.util
import itertools
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MODULES: Final = sorted((ROOT / "styx").rglob("*.py"))
MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60

Checker = Callable[[ast.Module], Iterator[tuple[int, str]]]


def long_functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} is {lines} lines long"


def broad_excepts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            if not caught or re.search(r"\b(Base)?Exception\b", caught):
                yield node.lineno, f"except {caught}".rstrip()


def bare_tasks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A task that no TaskGroup owns: its error is lost, its end is nobody's."""
    groups = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name)
    }
    groups |= {
        argument.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for argument in (*node.args, *node.kwonlyargs, *node.posonlyargs)
        if argument.annotation is not None and "TaskGroup" in ast.unparse(argument.annotation)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        owner, _, verb = name.rpartition(".")
        if verb in {"create_task", "ensure_future"} and owner not in groups:
            yield node.lineno, f"{name}()"


def lazy_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                lazy = isinstance(node, ast.Call) and ast.unparse(node.func) in {
                    "importlib.import_module",
                    "import_module",
                    "__import__",
                }
                if lazy or isinstance(node, ast.Import | ast.ImportFrom):
                    yield node.lineno, ast.unparse(node)


def impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The core is handed the time and the ids; it prints and awaits nothing."""
    banned = re.compile(
        r"(time|random|secrets|uuid|os)\.\w+|(datetime\.)?(datetime|date)\.(now|utcnow|today)|print|open|input"
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and banned.fullmatch(ast.unparse(node.func)):
            yield node.lineno, f"{ast.unparse(node.func)}()"
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield node.lineno, "async"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            named = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            if clock := named & {"time", "random", "secrets", "uuid"}:
                yield node.lineno, f"import {', '.join(sorted(str(name) for name in clock))}"


@dataclass(frozen=True)
class Rule:
    checker: Checker
    broken: str  # a snippet that breaks it
    times: int  # as often as this
    excused: dict[str, str] = field(default_factory=dict[str, str])  # module -> why it may
    inside: str = ""  # the part of styx/ that it is for


RULES: Final = {
    "a function is at most 60 lines": Rule(
        long_functions, "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES, 1
    ),
    "a broad except belongs to the supervisor": Rule(
        broad_excepts,
        "try: x\nexcept (ValueError, Exception): pass\ntry: x\nexcept: pass",
        2,
        {"kit/supervise.py": "keeps a named loop going and reports what ended it"},
    ),
    "every task is the child of a TaskGroup": Rule(
        bare_tasks,
        "async def f():\n    asyncio.create_task(g())\n    loop.create_task(g())",
        2,
    ),
    "imports stand at the top": Rule(
        lazy_imports,
        "def f():\n    import os\n    return importlib.import_module(x)",
        2,
        {
            "__init__.py": "`from styx import Styx` imports the SDK when it is asked for",
            "sdk/__init__.py": "the CLI needs no asyncio, a task's function no client",
            "sdk/call.py": "the module is the one that it is told to import",
            "__main__.py": "`styx version` answers before anything heavy is imported",
            "cli/main.py": "the table of sub-commands: each is imported when it is called",
            "agent/remote.py": "the library of buckets is an extra, imported when one is asked",
            "app.py": "what takes long to import is imported while the database starts",
            "kit/envelope.py": "a server without secrets needs no cipher",
            "site.py": "the exporter of spans is an extra, imported when an endpoint is configured",
        },
    ),
    "the core has no clock, no chance, no I/O and no async": Rule(
        impurities,
        "import time\nasync def f():\n    return datetime.now(), uuid.uuid4(), print()",
        5,
        inside="core",
    ),
}


def offences(rule: Rule) -> dict[str, list[str]]:
    """By module, excused or not."""
    found: dict[str, list[str]] = {}
    for path in MODULES:
        inside = path.relative_to(ROOT / "styx").as_posix()
        if inside.startswith(rule.inside):
            tree = ast.parse(path.read_text())
            found[inside] = [f"{inside}:{line}: {what}" for line, what in rule.checker(tree)]
    return {module: lines for module, lines in found.items() if lines}


@pytest.mark.parametrize("name", RULES)
def test_rule_holds(name: str) -> None:
    found = offences(RULES[name])
    assert {
        module: lines for module, lines in found.items() if module not in RULES[name].excused
    } == {}
    assert RULES[name].excused.keys() - found.keys() == set(), "excused, and no longer needs it"


@pytest.mark.parametrize("name", RULES)
def test_rule_can_fail(name: str) -> None:
    rule = RULES[name]
    assert len([*rule.checker(ast.parse(rule.broken))]) == rule.times


def test_an_owned_task_is_no_offence() -> None:
    owned = "async def f():\n    async with TaskGroup() as group:\n        group.create_task(g())"
    handed = "def f(group: asyncio.TaskGroup):\n    group.create_task(g())"
    assert not [*bare_tasks(ast.parse(owned)), *bare_tasks(ast.parse(handed))]


def test_modules_are_at_most_400_lines() -> None:
    lengths = {path.as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: n for path, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_modules_are_named_for_what_they_are() -> None:
    banned = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [path for path in MODULES if banned & {path.stem, *path.parent.parts}] == []


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter import cli; sys.exit(cli.lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_layers_hold() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_the_layers_can_fail(tmp_path: Path) -> None:
    package = tmp_path / "upside"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "high.py").write_text("")
    (package / "low.py").write_text("from upside import high\n")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_package = "upside"\n'
        '[[tool.importlinter.contracts]]\nname = "down"\ntype = "layers"\n'
        'layers = ["upside.high", "upside.low"]\n'
    )
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 broken" in result.stdout


# A path of somebody's machine, or the host of a package registry: neither is the project's business.
LEAK: Final = re.compile(
    r"(?<![\w.])/(?:work|farm|root)/|https?://[a-z.]*(?:npmjs|pythonhosted|pypi)\."
)


def tracked_files() -> list[Path]:
    """What git knows; every file where there is no git, as in an unpacked archive."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        folders = ("styx", "migrations", "tests", "bench", "docs", "deploy", ".ci")
        found = [*ROOT.glob("*.*"), *(p for name in folders for p in (ROOT / name).rglob("*"))]
        return [path for path in found if path.is_file() and "__pycache__" not in path.parts]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    leaks: list[str] = []
    for path in tracked_files():
        text = path.read_bytes().decode(errors="replace")
        leaks += [f"{path.relative_to(ROOT)}: {match[0]}" for match in LEAK.finditer(text)]
    assert leaks == []


@pytest.mark.parametrize("text", ["cd /{}/x", "see https://files.{}.org"])
def test_a_leak_would_be_seen(text: str) -> None:
    assert LEAK.search(text.format("root" if "cd" in text else "pythonhosted"))


def test_the_lock_covers_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    wanted = [*project["dependencies"], *extras]
    names = {re.split(r"[\[<>=;! ]", entry)[0].lower() for entry in wanted} - {"styx"}
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert names - locked == set()
    assert not re.search(r"://|--index|--find", lock)
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\w)", lock.strip()))


def test_the_generated_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    pages: dict[str, str] = generate.pages()
    assert "states.md" in pages
    stale = [name for name, text in pages.items() if (ROOT / "docs" / name).read_text() != text]
    assert stale == [], "run `make docs`"


def test_the_walk_names_what_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    names = re.findall(r"`(styx(?:\.\w+)+)`", page)
    assert len(names) > 20
    for name in names:
        pkgutil.resolve_name(name)
    with pytest.raises(AttributeError):
        pkgutil.resolve_name("styx.core.step.leap")
