"""What an agent has left: its capacity less what live attempts hold."""

from collections import Counter

from styx.core.agent import Capacity
from styx.core.ids import AttemptKey
from styx.core.spec import ANY_OF, Requirements


def model_matches(wanted: str, model: str) -> bool:
    """`a100` and `h100|a100` match `nvidia a100-sxm4-80gb`; "" matches any."""
    return any(name in model.lower() for name in wanted.split(ANY_OF))


class Room:
    """Mutable, and owned by one holder: the world's are changed by `apply` only, a draft's are clones.

    GPUs are counted by model. Which model an attempt took is remembered, so that it gives back what
    it took.
    """

    __slots__ = ("cpus_milli", "disk_bytes", "gpus", "memory_bytes", "took")

    def __init__(self, capacity: Capacity) -> None:
        self.cpus_milli = capacity.cpus_milli
        self.memory_bytes = capacity.memory_bytes
        self.disk_bytes = capacity.disk_bytes
        self.gpus: dict[str, int] = dict(Counter(gpu.model for gpu in capacity.gpus))
        self.took: dict[AttemptKey, str] = {}

    def clone(self) -> "Room":
        copy = Room.__new__(Room)
        copy.cpus_milli = self.cpus_milli
        copy.memory_bytes = self.memory_bytes
        copy.disk_bytes = self.disk_bytes
        copy.gpus = self.gpus.copy()
        copy.took = self.took.copy()
        return copy

    def fits(self, wanted: Requirements) -> bool:
        return (
            self.cpus_milli >= wanted.cpus_milli
            and self.memory_bytes >= wanted.memory_bytes
            and self.disk_bytes >= wanted.disk_bytes
            and (not wanted.gpus or self._model(wanted) is not None)
        )

    def overdrawn(self) -> bool:
        """Whether more is given to it than it has."""
        return self.cpus_milli < 0 or self.memory_bytes < 0

    def take(self, key: AttemptKey, wanted: Requirements) -> None:
        """Even when it does not fit: an adopted attempt holds what it holds, and the room goes below 0."""
        self._add(wanted, -1)
        if wanted.gpus:
            model = self._model(wanted) or self._any_model(wanted)
            self.took[key] = model
            self.gpus[model] = self.gpus.get(model, 0) - wanted.gpus

    def give(self, key: AttemptKey, wanted: Requirements) -> None:
        self._add(wanted, 1)
        if wanted.gpus:
            model = self.took.pop(key)
            self.gpus[model] += wanted.gpus

    def leftover(self, wanted: Requirements) -> tuple[int, int, int]:
        """How tight a fit: the smallest wins, so that big holes stay for big tasks.

        A GPU left idle costs most, so it decides first: a task without a wish for one goes to a
        machine without one while there is any.
        """
        return (
            self.idle_gpus() - wanted.gpus,
            self.cpus_milli - wanted.cpus_milli,
            self.memory_bytes - wanted.memory_bytes,
        )

    def idle_gpus(self) -> int:
        """Of all models. Of one that is overdrawn none is idle."""
        return sum(n for n in self.gpus.values() if n > 0) if self.gpus else 0

    def shortage(self, wanted: Requirements) -> tuple[int, int, int]:
        """How far from fitting: zeros fit."""
        most = max(
            (n for m, n in self.gpus.items() if model_matches(wanted.gpu_model, m)), default=0
        )
        return (
            max(0, wanted.gpus - most) if wanted.gpus else 0,
            max(0, wanted.cpus_milli - self.cpus_milli),
            max(0, wanted.memory_bytes - self.memory_bytes),
        )

    def _add(self, wanted: Requirements, sign: int) -> None:
        self.cpus_milli += sign * wanted.cpus_milli
        self.memory_bytes += sign * wanted.memory_bytes
        self.disk_bytes += sign * wanted.disk_bytes

    def _model(self, wanted: Requirements) -> str | None:
        """The matching model with the fewest free devices that suffice."""
        fitting = [
            (free, model)
            for model, free in self.gpus.items()
            if free >= wanted.gpus and model_matches(wanted.gpu_model, model)
        ]
        return min(fitting)[1] if fitting else None

    def _any_model(self, wanted: Requirements) -> str:
        matching = [m for m in self.gpus if model_matches(wanted.gpu_model, m)]
        return matching[0] if matching else wanted.gpu_model.partition(ANY_OF)[0]
