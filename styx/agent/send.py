"""Bring to the server, or into buckets, what a task has left: `python -m styx.agent.send`."""

import os
from typing import Final

from styx.agent import child, gather, remote
from styx.agent.errand import Delivery, Ended, Failed, Outcome, Parcel
from styx.agent.gather import Gathered
from styx.agent.server import Server
from styx.core import bundle
from styx.errors import InvalidSpec
from styx.parcel import reading

ROUNDS: Final = 5  # files may change while they are sent, and blobs be collected


def send(asked: Delivery) -> Outcome:
    """Done again it is the same: what is there already is not sent once more."""
    server = Server(asked)
    try:
        _into_buckets(asked.parcel)
        return Outcome(Ended.DONE, bundle=_to_server(server, asked.parcel))
    except Failed as failed:
        return failed.outcome
    except InvalidSpec as error:
        return Outcome(
            Ended.REFUSED, f"{error.message}: {error.hint}" if error.hint else error.message
        )
    except OSError as error:
        return Outcome(Ended.REFUSED, f"{error.filename or 'files'}: {error.strerror}")
    finally:
        server.close()


def _to_server(server: Server, parcel: Parcel) -> str:
    """The bundle's id; "" of none. Raises: Failed, InvalidSpec, OSError."""
    wanted = [path for path, to in parcel.outputs if not to]
    if not wanted:
        return ""
    for _ in range(ROUNDS):
        gathered = gather.gather(parcel.left, parcel.cwd, wanted)
        if _sent(server, gathered):
            return bundle.id_of(gathered.manifest)
    raise Failed(Ended.REFUSED, "its files change while they are sent")


def _sent(server: Server, gathered: Gathered) -> bool:
    """False: a file is another one by now."""
    for _ in range(ROUNDS):
        missing = server.offer(gathered.manifest)
        if not missing:
            return True
        sizes = {name: gathered.places[name].length for name in missing}
        for names in bundle.batches(sizes):
            blobs = [reading.blob(name, gathered.places[name]) for name in names]
            if None in blobs:
                return False
            server.send([blob for blob in blobs if blob])
    return False


def _into_buckets(parcel: Parcel) -> None:
    """Raises: Failed."""
    for path, to in parcel.outputs:
        if not to:
            continue
        top = os.path.realpath(parcel.cwd if path else parcel.left)
        for each in gather.found(top, path) if path else [""]:
            file = os.path.join(top, each)
            if not reading.is_below(os.path.realpath(file), top):
                raise Failed(Ended.REFUSED, f"{file} is a link that leads out of its directory")
            # What a pattern finds keeps its path: it may be many.
            remote.put(file, to if each == path else f"{to.rstrip('/')}/{each}")


if __name__ == "__main__":
    child.serve(Delivery, send)
