"""An instance: one machine, pod or allocation that Styx asked a provider for."""

from enum import StrEnum
from typing import Final

from styx.core import machine


class InstanceState(StrEnum):
    INTENT = "intent"  # wished for, nothing asked of the provider yet
    CREATING = "creating"  # a create call may be in flight
    CREATED = "created"  # the provider named it
    JOINED = "joined"  # its agent redeemed the join token
    DRAINING = "draining"
    TERMINATING = "terminating"  # repeated until the provider confirms
    GONE = "gone"
    FAILED = "failed"


NEXT: Final = {
    InstanceState.INTENT: frozenset({InstanceState.CREATING, InstanceState.FAILED}),
    InstanceState.CREATING: frozenset(
        {InstanceState.CREATED, InstanceState.TERMINATING, InstanceState.FAILED}
    ),
    InstanceState.CREATED: frozenset({InstanceState.JOINED, InstanceState.TERMINATING}),
    InstanceState.JOINED: frozenset({InstanceState.DRAINING, InstanceState.TERMINATING}),
    InstanceState.DRAINING: frozenset({InstanceState.JOINED, InstanceState.TERMINATING}),
    InstanceState.TERMINATING: frozenset({InstanceState.GONE}),
    InstanceState.GONE: frozenset[InstanceState](),
    InstanceState.FAILED: frozenset[InstanceState](),
}
TERMINAL: Final = machine.terminal(NEXT)
