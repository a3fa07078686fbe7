"""The DAG that a `@job` function draws: each call of a task is a node, each result passed on an edge."""

import inspect
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple, NoReturn, cast

from styx.sdk import fields, values
from styx.sdk.payload import Call, Place, Taken

PYTHON: Final = "python3"  # of the agent; on this machine's own server it is ours

loading: Final = ContextVar("loading", default=False)  # a task is importing its module


class Need(NamedTuple):
    task: str
    on: fields.On = "success"


class Node:
    """One task. `items` are the values of an array's elements, as JSON."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        call: Call,
        options: Mapping[str, Any],
        needs: Sequence[Need],
        items: list[str] | None,
    ) -> None:
        self.name = name
        self.function = function
        self.needs = needs
        self.items = items
        self._call = call
        self._options = options

    @property
    def width(self) -> int | None:
        return None if self.items is None else len(self.items)

    def call(self, path: str = "") -> str:
        """Raises: TypeError."""
        self._call.path = path
        return values.encode(self._call, f"an argument of {self.name}")

    def document(self, python: str) -> dict[str, Any]:
        """As in a task file. Raises: TypeError, for a function that no agent could import."""
        target, path = target_of(self.function)
        command = [python, "-m", "styx.sdk.call", target, self.call(path)]
        made: dict[str, Any] = {"command": command}
        if self.items is not None:
            made["array"] = {"over": self.items}
        options = fields.task_fields(self._options)
        given = options.pop("needs", [])
        needs = [need.task if need.on == "success" else need._asdict() for need in self.needs]
        needs += [given] if isinstance(given, str) else given
        return made | options | ({"needs": needs} if needs else {})


class Source(NamedTuple):
    """Whose result, and which part of it."""

    node: Node
    part: Place

    def taken(self, at: Place) -> Taken:
        return Taken(at, self.node.name, self.node.width, self.part)


class Result:
    """What a task will have returned. While a job is drawn it can only be passed on, or a part of it."""

    __slots__ = ("_source",)

    def __init__(self, node: Node, part: Place) -> None:
        self._source = Source(node, part)

    def __getitem__(self, key: str | int) -> "Result":
        return Result(self._source.node, [*self._source.part, key])

    def __getattr__(self, name: str) -> "Result":
        """Of a dataclass: in JSON it is an object with a key for each field."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __repr__(self) -> str:
        parts = "".join(f"[{key!r}]" for key in self._source.part)
        return f"<result of {self._source.node.name}>{parts}"

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it never returns
        self._refuse()

    def __eq__(self, _: object) -> NoReturn:
        self._refuse()

    def __hash__(self) -> int:
        return id(self)

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __format__(self, _: str) -> NoReturn:
        self._refuse()

    def __call__(self, *_: object) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"{self!r} has no value before the job runs: pass it on to a task")


# Every public name is a part of the result.
source_of: Final[Callable[[Result], Source]] = operator.attrgetter("_source")


class Graph:
    """Nodes by name, each after those that it needs."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._uses: dict[str, int] = {}  # of a name that was taken: the number it had last

    def add(
        self,
        function: Callable[..., Any],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        options: Mapping[str, Any],
        after: Sequence[tuple[Result, fields.On]] = (),
        items: list[str] | None = None,
    ) -> Result:
        """Raises: TypeError."""
        found: list[tuple[Place, Source]] = []
        arguments = without_results({"args": [*args], "kwargs": dict(kwargs)}, [], found)
        edges = [(source, Need(source.node.name)) for _, source in found]
        for result, on in after:
            source = source_of(result)
            edges.append((source, Need(source.node.name, on)))
        for source, need in edges:
            if self.nodes.get(need.task) is not source.node:
                raise TypeError(f"{Result(*source)!r} is of another job")
        taken = [source.taken(at) for at, source in found]
        call = Call(**arguments, results=taken, each=items is not None)
        given = dict(options)
        name = self._free(given.pop("name", None) or fields.name_of(function.__name__))
        needs = [*dict.fromkeys(need for _, need in edges)]
        self.nodes[name] = Node(name, function, call, given, needs, items)
        return Result(self.nodes[name], [])

    def document(self, python: str) -> dict[str, Any]:
        """The tasks by their names. Raises: TypeError."""
        return {name: node.document(python) for name, node in self.nodes.items()}

    def _free(self, name: str) -> str:
        free = name
        while free in self.nodes:
            self._uses[name] = self._uses.get(name, 1) + 1
            free = f"{name}-{self._uses[name]}"
        return free


def without_results(value: Any, at: Place, found: list[tuple[Place, Source]]) -> Any:
    """The same with nothing in the place of each `Result`, which is added to `found`."""
    if isinstance(value, Result):
        found.append((at, source_of(value)))
        return None
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, object]", value).items()
        return {key: without_results(item, [*at, key], found) for key, item in items}
    if isinstance(value, list | tuple):
        listed = enumerate(cast("Sequence[object]", value))
        return [without_results(item, [*at, index], found) for index, item in listed]
    return value


def target_of(function: Callable[..., Any]) -> tuple[str, str]:
    """`MODULE:FUNCTION`, and the directory below this one that its module is found in, if it is in none
    of Python's own. Raises: TypeError, for what cannot be imported.
    """
    module, name = sys.modules[function.__module__], function.__qualname__
    if "<" in name:
        raise TypeError(
            f"{name} is no function of a module: a task has to be imported by its agent"
        )
    file = _file_of(module, function)
    if not file:
        raise TypeError(f"{name} is written in no file: a task has to be imported by its agent")
    module_name = _name_of(module, file)
    root = Path(file).resolve().parents[module_name.count(".") + file.endswith("__init__.py")]
    here = Path.cwd()
    inside = root != here and root.is_relative_to(here)
    return f"{module_name}:{name}", os.fspath(root.relative_to(here)) if inside else ""


def _file_of(module: ModuleType, function: Callable[..., Any]) -> str:
    file: str = getattr(module, "__file__", None) or ""
    if module.__name__ == "__main__":  # into which a shell or a notebook writes, too
        code = inspect.unwrap(function).__code__
        return file if Path(code.co_filename).name == Path(file).name else ""
    return file


def _name_of(module: ModuleType, file: str) -> str:
    """Under which it is imported by others, also while it is the program."""
    if module.__name__ != "__main__":
        return module.__name__
    return module.__spec__.name if module.__spec__ else Path(file).stem
