"""Alternatives of what a task needs: which there are, which one an attempt took, and how they are told apart.

Who wants no alternatives has one, which is all that it wants: number 0.
"""

from typing import Final

from styx.core.attempt import Attempt
from styx.core.spec import ANY_OF, Requirements
from styx.core.task import Task

GIB: Final = 1 << 30


def among(wanted: Requirements) -> tuple[Requirements, ...]:
    """What it may take, each complete in itself; where they are ordered, the most wished for first."""
    return wanted.any_of or (wanted,)


def held(task: Task, attempt: Attempt) -> Requirements:
    """What the attempt takes of its agent."""
    wanted = task.spec.requirements
    return wanted.any_of[attempt.choice] if wanted.any_of else wanted


def told(wanted: Requirements) -> list[str]:
    """Each alternative by what not all of them have in common."""
    rows = [_words(each) for each in wanted.any_of]
    common = set[str](rows[0]).intersection(*rows)
    return [" ".join(word for word in row if word not in common) or "the rest" for row in rows]


def _words(wanted: Requirements) -> list[str]:
    words = [f"cpus={wanted.cpus_milli / 1_000:g}"]
    if wanted.gpus:
        model = wanted.gpu_model.upper().replace(ANY_OF, " or ")
        words.append(f"gpus={model}:{wanted.gpus}" if model else f"gpus={wanted.gpus}")
    if wanted.memory_bytes:
        words.append(f"memory={wanted.memory_bytes / GIB:.3g}GiB")
    if wanted.disk_bytes:
        words.append(f"disk={wanted.disk_bytes / GIB:.3g}GiB")
    if wanted.arch:
        words.append(f"arch={wanted.arch}")
    return words + [f"{key}={value}" for key, value in wanted.labels]
