"""One document of SkyPilot's → a task of Styx."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple, cast

from styx.core import fields, repository, source
from styx.core.fields import Wrong
from styx.core.units import Expected
from styx.file.document import Document
from styx.sky import fate, resources, script
from styx.sky.fate import Kind
from styx.sky.notes import Notes
from styx.sky.shape import TASK, misfits

EXPANDED: Final = frozenset({"workdir", "file_mounts", "service", "volumes"})
_VARIABLE: Final = re.compile(r"\$\{?\b([A-Za-z_][A-Za-z0-9_]*)\b\}?")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_SECRET: Final = re.compile(r"(?:secrets:)?(?:(?:personal|workspace|global)\.)?(.*)")


class Translated(NamedTuple):
    """`fields` run as they are. `later` is only for a file: what Styx refuses until it is given, or understood."""

    document: Document
    fields: dict[str, Any]
    later: dict[str, Any]
    notes: Notes


def translate(document: Document, env: Mapping[str, str]) -> Translated:
    """`env` is given beside the file, and wins."""
    notes = Notes(document)
    given = cast("dict[str, Any]", document.content)
    variables, missing = _env(given.get("envs"), env, notes)
    known = {
        key: _expanded(value, variables) if key in EXPANDED else value
        for key, value in given.items()
        if value is not None
    }
    notes.are_wrong(misfits(TASK, known))
    if notes.wrong:
        return Translated(document, {}, {}, notes)
    made: dict[str, Any] = {}
    later: dict[str, Any] = {}
    if "name" in known:
        made["name"] = _name(str(known["name"]), notes)
    if known.get("num_nodes", 1) != 1:
        made["num_nodes"] = known["num_nodes"]
    secrets = _secrets(known, env, notes)
    if variables:
        made["env"] = variables
    wanted = resources.translate(known.get("resources", {}), notes)
    made |= wanted.beside
    if wanted.resources:
        made["resources"] = wanted.resources
    made["run"] = _script(known, {*variables, *missing, *secrets}, notes)
    if missing:
        later["env"] = {**variables, **dict.fromkeys(missing)}
    if secrets:
        made["secrets"] = secrets
    if wanted.image:
        made["image"] = wanted.image
    files = _files(known, notes)
    made |= files.made
    later |= files.later
    _rest(known, notes)
    return Translated(document, made, later, notes)


def _repository(given: dict[str, Any], notes: Notes) -> dict[str, str]:
    """In Styx's words; wrong ones are noted."""
    ref = given.get("ref")
    wanted = {"git": given.get("url"), "ref": None if ref is None else str(ref)}
    found: repository.Repository | None = notes.read("workdir", wanted, repository.read)
    if not found:
        return {}
    return {"git": found.url, "ref": found.ref} if found.ref else {"git": found.url}


class _Files(NamedTuple):
    made: dict[str, Any]
    later: dict[str, Any]


def _files(given: dict[str, Any], notes: Notes) -> _Files:
    """`workdir` and `file_mounts`. An absolute directory is the agent's to Styx, and the user's here: it goes
    into the work directory as files do.
    """
    made: dict[str, Any] = {}
    later: dict[str, Any] = {}
    files: dict[str, Any] = {}
    workdir: object = given.get("workdir")
    if isinstance(workdir, dict):
        made["workdir"] = _repository(cast("dict[str, Any]", workdir), notes)
    elif isinstance(workdir, str) and fields.is_of_agent(workdir):
        files["."] = workdir
    elif workdir:
        made["workdir"] = workdir
    buckets: dict[str, Any] = {}
    mounts: dict[object, Any] = given.get("file_mounts") or {}
    for to, mount in mounts.items():
        found, fates = _mounted(str(to), mount)
        for fated in fates:
            notes.befalls(f"file_mounts.{to}", fated)
        if any(fated.kind is Kind.REFUSED for fated in fates):
            buckets[str(to)] = mount
        else:
            files |= found
    if files:
        made["files"] = files
    if buckets:
        later["files"] = files | buckets
    return _Files(made, later)


def _mounted(to: str, mount: Any) -> tuple[dict[str, str], list[fate.Fate]]:
    """What is brought where: a path, an address, or the sources of a storage; and what befalls it. Of several
    each is there under its own name.
    """
    if isinstance(mount, str):
        return {to: mount}, [] if _is_had(mount) else [fate.UNKNOWN_STORE]
    given: object = mount.get("source")
    if not given:
        return {}, [fate.NEW_BUCKET]
    if isinstance(given, str):
        found = {to: given}
    else:
        several = cast("list[str]", given)
        found = {posixpath.join(to, PurePath(one).name): one for one in several}
        if any(map(source.is_source, several)):
            return {}, [fate.FAR_OF_MANY]
    if not all(map(_is_had, found.values())):
        return {}, [fate.UNKNOWN_STORE]
    fates = [] if str(mount.get("mode", "MOUNT")).upper() == "COPY" else [fate.MOUNTED]
    far = any(map(source.is_source, found.values()))
    return found, fates if far else [*fates, fate.SENT]


def _is_had(found: str) -> bool:
    try:
        return not source.is_source(found) or bool(source.read(found))
    except Expected:
        return False


def _rest(given: dict[str, Any], notes: Notes) -> None:
    """What has a fate and no place."""
    for key, value in given.items():
        fated = fate.TASK.get(key)
        if not fated or fated.kind is Kind.TAKEN:
            continue
        if key == "config":
            for name in (name for name, wish in value.items() if wish is not None):
                notes.befalls(f"config.{name}", fate.CONFIG.get(name, fated))
        elif value not in (False, {}, [], ""):
            notes.befalls(key, fated)


def _name(given: str, notes: Notes) -> str | None:
    if fields.NAME.fullmatch(given):
        return given
    name = _NO_NAME.sub("-", given)[:128].strip("-")
    notes.warn("name", f"a name has letters, digits and . _ - only: {name or 'another'} it is")
    return name or None


def _env(
    given: object, over: Mapping[str, str], notes: Notes
) -> tuple[dict[str, str], Sequence[str]]:
    """The variables, and those without a value.

    Values are text, written as Python does: SkyPilot turns true into `True`.
    """
    made: dict[str, str] = {}
    missing: list[str] = []
    written = cast("dict[object, object]", given if isinstance(given, dict) else {})
    for key, value in written.items():
        name, path = str(key), f"envs.{key}"
        if isinstance(value, dict | list):
            notes.is_wrong(path, "expected text")
        elif value is None and name not in over:
            notes.befalls(path, fate.NO_VALUE, name=name)
            missing.append(name)
        else:
            made[name] = str(value)
    made |= over
    try:
        return fields.env(made), missing
    except Wrong as wrong:
        for error in wrong.errors:
            notes.is_wrong(f"envs.{error.path}", error.message)
    except Expected as expected:
        notes.is_wrong("envs", f"expected {expected}")
    return made, missing


def _secrets(given: dict[str, Any], env: Mapping[str, str], notes: Notes) -> list[str]:
    """Their names, but for those that `env` gives openly."""
    found: dict[str, None] = {}
    for field in ("secrets", "managed_secrets"):
        for path, key, value in _entries(field, given.get(field, ())):
            name = _secret(key)
            if name in env:
                continue
            found[name] = None
            if isinstance(value, dict):
                notes.befalls(path, fate.SECRET_FILE, name=name)
            elif value is not None:
                notes.befalls(path, fate.WRITTEN_SECRET, name=name)
    return list(found)


def _entries(field: str, entries: Any) -> Iterator[tuple[str, object, object]]:
    """Of a mapping or a list: where each stands, its key, and what it says."""
    if isinstance(entries, dict):
        for key, value in cast("dict[object, object]", entries).items():
            yield f"{field}.{key}", key, value
        return
    for index, entry in enumerate(entries):
        keys = cast("dict[object, object]", entry) if isinstance(entry, dict) else {entry: None}
        for key, value in keys.items():
            yield f"{field}[{index}]", key, value


def _secret(key: object) -> str:
    match = _SECRET.fullmatch(str(key))
    return match[1] if match else str(key)


def _script(given: dict[str, Any], variables: set[str], notes: Notes) -> str:
    setup, run = given.get("setup", ""), given.get("run", "")
    if not setup.strip() and not run.strip():
        notes.is_wrong("", "nothing to do: neither `run` nor `setup` says anything")
    for path, text in (("setup", setup), ("run", run)):
        script.warn_of_variables(notes, path, text, variables)
    return script.script(setup, run, variables)


def _expanded(value: Any, variables: Mapping[str, str]) -> Any:
    """`$NAME` and `${NAME}` of the file's own variables, wherever there is text; others stay."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), value)
    if isinstance(value, list):
        return [_expanded(item, variables) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_expanded(key, variables): _expanded(item, variables) for key, item in items}
    return value
