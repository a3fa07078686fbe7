"""The floor of a heartbeat: unmasked, decoded and answered by the libraries alone, without a socket or a loop."""

import time

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage

from bench.noop import LOAD
from styx.wire import agent as wire


def cpu_s(times: int) -> float:
    """CPU seconds of so many."""
    server, client = (Connection(kind) for kind in (ConnectionType.SERVER, ConnectionType.CLIENT))
    frames = [
        client.send(BytesMessage(wire.encode([wire.Heartbeat(n, 0, LOAD)]))) for n in range(times)
    ]
    started_s = time.process_time()
    for frame in frames:
        server.receive_data(frame)
        for event in server.events():
            assert isinstance(event, BytesMessage)
            for beat in wire.decode_from_agent(bytes(event.data)):
                assert isinstance(beat, wire.Heartbeat)
                server.send(BytesMessage(wire.encode([wire.HeartbeatOk(beat.seq)])))
    return time.process_time() - started_s
