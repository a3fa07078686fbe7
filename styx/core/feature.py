"""What an agent must be able to do beyond running a command: a *feature*.

An agent tells its features with its capacity, and a spec needs some: so a task never comes to an agent that
is of an older version, or that lacks a program, and would run it as something else.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from styx.core import source
from styx.core.spec import ANY_OF, TaskSpec


class Feature(StrEnum):
    FILES = "files"  # bundles are laid out before the task starts
    IMAGE = "image"  # a container engine answers
    SOURCES = "sources"  # files of web addresses are fetched
    STORAGE = "storage"  # those of buckets, too
    SETUP = "setup"  # a script runs once before the tasks of a spec
    MODELS = "models"  # of several models of GPUs any will do
    OUTPUTS = "outputs"  # what tasks leave is brought back, and to those that need it
    SECRETS = "secrets"  # they reach the task, no disk, and no output


LACKS: Final[Mapping[str, str]] = {
    Feature.FILES: "is of a version that brings no files: upgrade it",
    Feature.IMAGE: "has neither podman nor docker, or is of a version that runs no images",
    Feature.SOURCES: "is of a version that fetches no files from afar: upgrade it",
    Feature.STORAGE: "cannot reach buckets: pip install 'styx[storage]' there",
    Feature.MODELS: "is of a version that knows one model of GPUs at a time: upgrade it",
    Feature.OUTPUTS: "is of a version that brings no outputs back: upgrade it",
    Feature.SECRETS: "is of a version that takes no secrets: upgrade it",
    Feature.SETUP: "runs no `setup`: upgrade it, or install flock (of util-linux) there",
}
SILENT: Final[Mapping[str, str]] = {
    "docker_silent": "has docker, but its daemon does not answer the agent's user",
    "podman_silent": "has podman, but `podman info` fails for the agent's user",
}
# Of every agent of this version.
ALWAYS: Final = (
    Feature.FILES,
    Feature.SOURCES,
    Feature.OUTPUTS,
    Feature.MODELS,
    Feature.SECRETS,
)


def needed_by(spec: TaskSpec) -> tuple[str, ...]:
    """Sorted."""
    return tuple(sorted(_needed_by(spec)))


def _needed_by(spec: TaskSpec) -> Iterable[str]:
    if spec.bundles:
        yield Feature.FILES
    if spec.image:
        yield Feature.IMAGE
    if any(map(source.is_source, spec.files.values())):
        yield Feature.SOURCES
    if any(map(source.is_bucket, spec.files.values())) or any(out.to for out in spec.outputs):
        yield Feature.STORAGE
    if any(ANY_OF in each.gpu_model for each in spec.requirements.any_of or (spec.requirements,)):
        yield Feature.MODELS
    if spec.outputs or spec.inputs:
        yield Feature.OUTPUTS
    if spec.setup:
        yield Feature.SETUP
    if spec.secrets:
        yield Feature.SECRETS


def with_needs(spec: TaskSpec) -> TaskSpec:
    """The same spec, whose requirements say what it needs."""
    needed = needed_by(spec)
    if not needed:
        return spec
    any_of = tuple(
        msgspec.structs.replace(each, features=needed) for each in spec.requirements.any_of
    )
    wanted = msgspec.structs.replace(spec.requirements, features=needed, any_of=any_of)
    return msgspec.structs.replace(spec, requirements=wanted)


def lacking(feature: str, have: Iterable[str] = ()) -> str:
    """In words, of an agent that lacks it and tells of `have`."""
    if feature == Feature.IMAGE and (words := [SILENT[word] for word in have if word in SILENT]):
        return "; ".join(words)
    return LACKS.get(feature, f"does not know {feature}: upgrade it")
