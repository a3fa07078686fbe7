"""What the handlers work on."""

from dataclasses import dataclass, field

from styx.config import Webhooks
from styx.core.policy import Policy
from styx.engine.loop import Engine
from styx.engine.schedules import Schedules
from styx.engine.secrets import Secrets
from styx.kit.reach import Reach
from styx.store.files import Files
from styx.store.logs import LogFiles
from styx.store.query import Query


@dataclass(frozen=True, slots=True)
class Backend:
    engine: Engine
    query: Query
    logs: LogFiles
    schedules: Schedules
    files: Files
    secrets: Secrets
    webhooks: Webhooks = field(default_factory=Webhooks)

    @property
    def policy(self) -> Policy:
        return self.engine.policy

    @property
    def reach(self) -> Reach:
        return Reach(self.webhooks.allow_hosts)
