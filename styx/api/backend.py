"""What the handlers work on."""

from dataclasses import dataclass

from styx.core.policy import Policy
from styx.engine.loop import Engine
from styx.store.files import Files
from styx.store.logs import LogFiles
from styx.store.query import Query


@dataclass(frozen=True, slots=True)
class Backend:
    engine: Engine
    query: Query
    logs: LogFiles
    files: Files

    @property
    def policy(self) -> Policy:
        return self.engine.policy
