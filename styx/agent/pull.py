"""A start that wants an image waits until the engine has it: what cannot be pulled is no failure of the command.

That an image is there is asked for once: should somebody remove it later, `run` pulls it again.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from styx.agent.errand import Ended, Outcome
from styx.agent.waiting import Order, Waiting
from styx.core.task import Reason

DETAIL_CHARS: Final = 500
_LOCAL: Final = "localhost/"  # of images that were built here, and come from no registry
_FULL: Final = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)
# That the same pull may well succeed later, or elsewhere. What is not among these, its author must cure.
_AWAY: Final = re.compile(
    r"connection re(fused|set)|i/o timeout|TLS handshake timeout|deadline exceeded|unexpected EOF|"
    r"network is unreachable|no route to host|temporary failure in name|server misbehaving|"
    r"too ?many ?requests|\b(500|502|503|504)\b.{0,9}(internal server|bad gateway|service unav|gateway time)|"
    r"cannot connect to the docker daemon",
    re.IGNORECASE,
)


class Image(NamedTuple):
    program: str  # the engine's
    name: str


class Pulls:
    """`env` is the agent's own: what logs it in to registries is there, not with a task."""

    def __init__(
        self,
        env: Mapping[str, str],
        command: Callable[[Order], None],
        flush: Callable[[], None],
        *,
        until: Callable[[Order], float],
    ) -> None:
        self._env = env
        self._command = command
        self._there: set[Image] = set()
        self._waiting = Waiting[Image](
            "image", self._bring, command, flush, refused=_refused, until=until
        )
        self.run = self._waiting.run

    def command(self, order: Order) -> None:
        """As `Executor.send`."""
        key: str = order.get("k", "")
        match order["do"]:
            case "start" if "image" in order and "end" not in order:
                image = Image(*order["image"])
                if image in self._there:
                    self._command(order)
                elif key not in self._waiting:
                    self._waiting.hold(key, image, order)
            case "stop":
                self._waiting.let_go(key)
                self._command(order)
            case _:
                self._command(order)

    async def _bring(self, image: Image) -> Outcome:
        code, _ = await self._ask(image.program, "image", "inspect", "--format", "-", image.name)
        if code:
            code, words = await self._ask(image.program, "pull", "--quiet", image.name)
            if code:
                return refusal(image.name, words)
        self._there.add(image)
        return Outcome(Ended.DONE)

    async def _ask(self, *argv: str) -> tuple[int, str]:
        """How the engine's client ended, and what it complained of. Without us it ends."""
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return 1, str(error)
        try:
            _, told = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        return child.returncode or 0, told.decode(errors="replace")


def refusal(name: str, words: str) -> Outcome:
    """What comes of a pull that failed with these words."""
    last = words.strip().rpartition("\n")[2].removeprefix("Error: ")
    detail = f"{name}: {last}"[:DETAIL_CHARS]
    if _FULL.search(last):
        return Outcome(Ended.FULL, detail)
    away = _AWAY.search(last) and not name.startswith(_LOCAL)
    return Outcome(Ended.AWAY if away else Ended.REFUSED, detail)


def _refused(outcome: Outcome) -> Reason:
    return Reason.REGISTRY if outcome.ended is Ended.AWAY else Reason.IMAGE
