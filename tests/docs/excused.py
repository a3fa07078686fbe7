"""The blocks that cannot run here, each with its reason. Nothing else on the pages is left out.

`starts` is how the first line of the block begins. An entry that no block matches is a fault, so that the
table cannot outlive what it excuses.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from tests.docs.block import Block

INSTALLS: Final = "installs Styx: CI runs the README's first command on a clean checkout"


class Excuse(NamedTuple):
    page: str
    starts: str
    reason: str
    instead: str = ""  # what a reader has after it, for the blocks that follow

    def covers(self, block: Block) -> bool:
        return block.page == self.page and block.text.startswith(self.starts)


EXCUSED: Final = (
    Excuse(
        "README.md",
        "python3 -m venv .venv && .venv/bin/pip install -q '.[server]'",
        "CI runs both commands, word for word, on a clean checkout",
        instead="styx run --name demo echo 'Hello Styx!'",
    ),
    Excuse(
        "README.md", "uv venv", "installs Styx with programs that may be absent: uv, pipx, Docker"
    ),
    Excuse("CONTRIBUTING.md", "python3 -m venv .venv", "the commands of CI itself"),
    Excuse("docs/quickstart.md", "python3 -m venv .venv", INSTALLS),
    Excuse("docs/quickstart.md", "STYX_TOKEN=… styx agent", "wants a second machine"),
    Excuse(
        "docs/high-availability.md",
        "export DATABASE_URL=",
        "wants two machines and a Postgres: tests/e2e/test_standby.py has them on one",
    ),
    Excuse("docs/high-availability.md", "export STYX_SERVER_URL=", "the same two machines"),
    Excuse(
        "docs/tracing.md",
        "STYX_OTLP_ENDPOINT=",
        "wants a collector: tests/api/test_tracing.py has one",
    ),
    Excuse("docs/performance.md", ".venv/bin/python -m bench", "a benchmark takes minutes"),
    Excuse("bench/README.md", ".venv/bin/python -m bench", "a benchmark takes minutes"),
)


def excuse(block: Block) -> Excuse | None:
    return next((one for one in EXCUSED if one.covers(block)), None)


def idle(blocks: Iterable[Block]) -> list[Excuse]:
    """Entries that excuse nothing."""
    found = [*blocks]
    return [one for one in EXCUSED if not any(one.covers(block) for block in found)]
