"""`--secret` of `styx run` and `styx submit`: the name of a secret, or a value for this job alone."""

from collections.abc import Sequence
from typing import Final

from styx.core.secret import GIVEN
from styx.sdk.client import Styx

STAND_IN: Final = (
    f"{GIVEN}00000000-0000-0000-0000-000000000000"  # for a value, where nothing is sent
)


def secrets(styx: Styx, words: Sequence[str], *, sent: bool) -> dict[str, str]:
    """Variables with the names of what they hold; values are `sent` to the server, unless it is to plan only."""
    pairs = [word.partition("=") for word in words]
    values = {variable: value for variable, equals, value in pairs if equals}
    names = {variable: variable for variable, equals, _ in pairs if not equals}
    if not values:
        return names
    return names | (styx.give_secrets(values) if sent else dict.fromkeys(values, STAND_IN))
