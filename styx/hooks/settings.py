"""`[webhooks]` of the configuration, checked: at the start of the server, not at the end of a job."""

from typing import Self

import msgspec

from styx.config import Webhooks
from styx.core import hook
from styx.core.job import JobState
from styx.core.units import Expected
from styx.errors import SetupError
from styx.hooks.signing import Signer
from styx.kit.reach import Reach


class Settings(msgspec.Struct, frozen=True):
    signer: Signer
    reach: Reach
    urls: tuple[str, ...]
    events: tuple[hook.Ending, ...]
    timeout_s: float

    @classmethod
    def of(cls, given: Webhooks, secret: str) -> Self:
        """`secret` is the configured one, or the generated one. Raises: SetupError."""
        try:
            signer, reach = Signer(secret), Reach(given.allow_hosts)
        except ValueError as error:
            raise SetupError(f"[webhooks] cannot be used: {error}") from error
        for url in given.urls:
            try:
                why = reach.hinders_url(hook.url(url))
            except Expected as expected:
                why = f"expected {expected}"
            if why:  # the URL may be a secret
                raise SetupError(f"one of webhooks.urls cannot be used: {why}")
        return cls(signer, reach, given.urls, given.events, given.timeout_s)

    def told_of(self, state: JobState) -> tuple[str, ...]:
        """Who is told of every job that ends so."""
        concerned = any(hook.concerns(event, state) for event in self.events)
        return self.urls if concerned else ()
