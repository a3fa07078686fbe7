"""Which files of a directory are not sent: `.gitignore`, `.styxignore`, `.skyignore`, and `.git` never is.

As git has it: a file of rules holds for its directory and all below, the nearest counts most, of one file
the last rule that fits, and what is inside of an excluded directory is not looked at. Of a directory within
a git repository the rules above it hold, too. `.styxignore` counts after `.gitignore` and may take back what
that excludes. A `.skyignore` at the top stands in for every `.gitignore`, as with SkyPilot.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

from pathspec import GitIgnoreSpec

from styx.errors import InvalidSpec

NEVER: Final = ".git"  # a directory, or of a worktree a file
GIT: Final = ".gitignore"
SKY: Final = ".skyignore"
OURS: Final = ".styxignore"
_GROUP: Final = re.compile(r"\(\?P<\w+>")  # a name may stand in one expression once only


class Rules(NamedTuple):
    """Of one directory; `above` are those of the directories that it is in. `any` finds what any rule of
    `spec` would: most paths are none's business, and one expression says so ten times as fast.
    """

    spec: GitIgnoreSpec
    any: re.Pattern[str]
    prefix: str  # from there to the top of what is sent, if it lies above
    base: int  # how much of a path leads there, if it lies below
    above: "Rules | None"

    def excludes(self, path: str, *, directory: bool) -> bool:
        """`path` is relative to the top of what is sent."""
        rules: Rules | None = self
        while rules is not None:
            seen = rules.prefix + path[rules.base :] + ("/" if directory else "")
            if rules.any.search(seen):
                excluded = rules.spec.check_file(seen).include
                if excluded is not None:
                    return excluded
            rules = rules.above
        return False


class Ignore:
    """Of the directory `top`; of one that has only what is `tracked`, git's rules say nothing.

    Raises: InvalidSpec, for rules that cannot be read.
    """

    def __init__(self, top: Path, *, tracked: bool = False) -> None:
        self._sky = not tracked and (top / SKY).is_file()
        self._names = (SKY, OURS) if self._sky else (OURS,) if tracked else (GIT, OURS)
        self._top = top

    def outside(self) -> Rules | None:
        """What holds from above the top: the rules of the repository that it is in."""
        above = [self._top, *self._top.parents]
        repository = next((i for i, path in enumerate(above) if (path / NEVER).exists()), 0)
        rules: Rules | None = None
        if not self._sky:
            for path in reversed(above[1 : repository + 1]):
                if (spec := _read(path, (GIT,))) is not None:
                    rules = Rules(
                        spec, _any(spec), f"{self._top.relative_to(path).as_posix()}/", 0, rules
                    )
        return rules

    def inside(
        self, directory: Path, path: str, names: set[str], above: Rules | None
    ) -> Rules | None:
        """What holds in a directory that has files of these names; `path` leads to it, and ends in a slash."""
        if names.isdisjoint(self._names):
            return above
        spec = _read(directory, tuple(name for name in self._names if name in names))
        return above if spec is None else Rules(spec, _any(spec), "", len(path), above)


def _any(spec: GitIgnoreSpec) -> re.Pattern[str]:
    texts: list[str] = [str(rule.regex.pattern) for rule in spec.patterns if rule.regex is not None]  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]: of text or of bytes
    return re.compile("|".join(f"(?:{_GROUP.sub('(?:', text)})" for text in texts) or r"(?!)")


def _read(directory: Path, names: tuple[str, ...]) -> GitIgnoreSpec | None:
    lines: list[str] = []
    for name in names:
        file = directory / name
        try:
            if file.is_file():
                lines += file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError as error:
            raise InvalidSpec(f"{file}: {error.strerror}") from error
    try:
        return GitIgnoreSpec.from_lines(lines) if lines else None
    except ValueError as error:
        raise InvalidSpec(
            f"{directory}: a rule of {' or '.join(names)} is none: {error}"
        ) from error
