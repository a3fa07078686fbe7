"""A git repository as a work directory, `{git: URL, ref: …}`: whoever submits fetches it, and sends its files.

Both end up as words of a command, so neither can be an option of it, nor name another way to fetch.
"""

import re
from typing import Final, NamedTuple, cast

from styx.core.units import Expected

EXPECTED: Final = "https://host/path, ssh://host/path or git@host:path of a git repository, or file:///path of one here"
REF: Final = "a branch, a tag, or a commit by all its digits"
COMMIT_LABEL: Final = "styx.git_commit"  # of a task: what was sent
_MAX: Final = 2_048
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*@"
_HOST: Final = r"[A-Za-z0-9][A-Za-z0-9.-]*"
_URL: Final = re.compile(
    rf"(?:(?:https|ssh)://(?:{_USER})?{_HOST}(?::\d+)?/|{_USER}{_HOST}:(?!-)|file:///)\S+"
)
_PASSWORD: Final = re.compile(r"[a-z]+://[^/@]*:[^/]*@")
_REF: Final = re.compile(r"(?!.*(?:\.\.|@\{))[^\s~^:?*\[\\+./-][^\s~^:?*\[\\]{0,254}")


class Repository(NamedTuple):
    url: str
    ref: str = ""  # "" is the head of its default branch

    def __str__(self) -> str:
        return f"{self.url} at {self.ref}" if self.ref else self.url


def read(value: object) -> Repository:
    """`{git, ref}`. Raises: Expected."""
    given = cast("dict[object, object]", value if isinstance(value, dict) else {})
    if "git" not in given:
        raise Expected("a directory, or `git` with the address of a repository, and `ref`")
    if unknown := given.keys() - {"git", "ref"}:
        raise Expected(f"`git` and `ref`, without {min(map(str, unknown))!r},")
    url, ref = given["git"], given.get("ref")
    if isinstance(url, str) and _PASSWORD.match(url):
        raise Expected("an address without a password, which git itself keeps for you,")
    if not isinstance(url, str) or len(url) > _MAX or not url.isprintable():
        raise Expected(EXPECTED)
    if not _URL.fullmatch(url):
        raise Expected(EXPECTED)
    if ref is None:
        return Repository(url)
    if not isinstance(ref, str):  # 1.10 is a number to YAML, and another one
        raise Expected(f"{REF} as `ref`, in quotes if it is a number,")
    if not _REF.fullmatch(ref) or not ref.isprintable():
        raise Expected(f"{REF} as `ref`")
    return Repository(url, ref)
