"""Files of tasks, as `submit`, `validate` and `import` take them: Styx's own, or SkyPilot's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from styx.file import job, read, yaml_text
from styx.sky import pipeline, recognise
from styx.sky.pipeline import Pipeline


class Loaded(NamedTuple):
    """`warnings` say what the file asks for and does not get; its relative paths start at `base`."""

    job: job.Job
    base: Path
    warnings: Sequence[str] = ()
    sky: bool = False


def load(path: str, *, env: Mapping[str, str], sky: bool = False, to_run: bool = True) -> Loaded:
    """`sky`: it is SkyPilot's, whatever it looks like. Not `to_run`, what is still to be given is a warning.

    Raises: InvalidSpec, with line and column.
    """
    source = read.source(path)
    base = Path.cwd() if path == read.STDIN else Path(path).absolute().parent
    if sky or (read.is_yaml(source) and recognise.is_sky(read.documents(source))):
        found = _pipeline(source, env)
        notes = found.warnings if to_run else [*found.needed, *found.warnings]
        warnings = [f"{note.where}: {note.message}" for note in notes]
        return Loaded(found.job(to_run=to_run), Path.cwd(), warnings, sky=True)  # as with SkyPilot
    document = read.only(read.documents(source), expected=read.EXPECTED, example=read.EXAMPLE)
    return Loaded(job.of(document, env=env), base)


def is_of_tasks(path: str) -> bool:
    """Raises: InvalidSpec, for what cannot be read at all."""
    return recognise.is_of_tasks(read.documents(read.source(path)))


def skypilots(path: str, env: Mapping[str, str]) -> Pipeline:
    """Raises: InvalidSpec, for what SkyPilot would not take either."""
    return _pipeline(read.source(path), env)


def _pipeline(source: read.Source, env: Mapping[str, str]) -> Pipeline:
    """SkyPilot reads YAML 1.1."""
    return pipeline.read(yaml_text.parse(source.name, source.text, old=True), env)
