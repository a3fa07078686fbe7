# Generated from aio/kept.py by `python -m tests.sdk.generate`; do not edit.
"""What a server keeps for its clients beside tasks: schedules, secrets, and files that go with tasks."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from styx.core import bundle
from styx.parcel.landing import Landing
from styx.sdk.calls import BASE, Calls, segment
from styx.sdk.fields import Document
from styx.wire import http as wire
from styx.wire import parcel
from styx.wire import secret as secret_wire


class Kept(Calls):
    __doc__ = Calls.__doc__

    # --- schedules --------------------------------------------------------------------------------

    def put_schedule(self, name: str, job: Document) -> wire.ScheduleDetail:
        """Create or replace; `job` holds its `schedule`."""
        return self._put(wire.ScheduleDetail, f"/schedules/{segment(name)}", job)

    def schedules(self, *, limit: int | None = None) -> Iterator[wire.ScheduleView]:
        return self._pages(wire.ScheduleView, "/schedules", {}, limit)

    def schedule(self, name: str) -> wire.ScheduleDetail:
        return self._read(wire.ScheduleDetail, f"/schedules/{segment(name)}")

    def pause_schedule(self, name: str) -> wire.ScheduleView:
        return self._post(wire.ScheduleView, f"/schedules/{segment(name)}/pause")

    def resume_schedule(self, name: str) -> wire.ScheduleView:
        return self._post(wire.ScheduleView, f"/schedules/{segment(name)}/resume")

    def run_schedule(self, name: str, *, key: str = "") -> wire.ScheduleRun:
        """A job of it now. The same `key` again gives the same job."""
        return self._post(wire.ScheduleRun, f"/schedules/{segment(name)}/run", key=key)

    def delete_schedule(self, name: str) -> wire.ScheduleView:
        return self._delete(wire.ScheduleView, f"/schedules/{segment(name)}")

    # --- secrets ----------------------------------------------------------------------------------

    def put_secret(self, name: str, value: str) -> secret_wire.SecretView:
        """Create or replace."""
        body = {"value": value}
        return self._put(secret_wire.SecretView, f"/secrets/{segment(name)}", body)

    def secrets(self, *, limit: int | None = None) -> Iterator[secret_wire.SecretView]:
        """Without their values, which nobody is told."""
        return self._pages(secret_wire.SecretView, "/secrets", {}, limit)

    def secret(self, name: str) -> secret_wire.SecretView:
        return self._read(secret_wire.SecretView, f"/secrets/{segment(name)}")

    def delete_secret(self, name: str) -> secret_wire.SecretView:
        return self._delete(secret_wire.SecretView, f"/secrets/{segment(name)}")

    def give_secrets(self, values: Mapping[str, str]) -> dict[str, str]:
        """Values for one job, by variable: `secrets` of its tasks."""
        body = {"values": dict(values)}
        return (self._post(secret_wire.SecretsGiven, "/job-secrets", body=body)).names

    def rotate_secret_keys(self) -> secret_wire.SecretsRotated:
        """Put all under the first of the server's keys."""
        return self._post(secret_wire.SecretsRotated, "/secret-keys/rotate")

    # --- files (`sdk.sending` packs and sends a directory) ----------------------------------------

    def files(self) -> parcel.FilesView:
        """How much may be sent."""
        return self._read(parcel.FilesView, "/files")

    def offer_bundle(self, manifest: bytes) -> parcel.BundleView:
        """What is missing of it; when nothing is, tasks may name it."""
        return self._post(parcel.BundleView, "/bundles", body=manifest)

    def send_blobs(self, blobs: bytes) -> None:
        """As `core.bundle.encode_blobs` makes them."""
        self._post(parcel.BlobsKept, "/blobs", body=blobs, media_type=bundle.BLOBS_TYPE)

    # --- what tasks have left ---------------------------------------------------------------------

    def outputs(self, task: str) -> parcel.OutputsView:
        """Raises: NotFound, while there are none, or when they are gone."""
        return self._read(parcel.OutputsView, f"/tasks/{segment(task)}/outputs")

    def download(
        self, task: str, to: str | os.PathLike[str], *, force: bool = False
    ) -> parcel.OutputsView:
        """Lay what the task has left into the directory `to`, which is made if need be. Nothing is there before
        all of it has come. Raises: NotFound; Conflict, naming what is there already, unless by `force`.
        """
        found = self.outputs(task)
        answer = self._transport.call("GET", f"{BASE}/bundles/{found.bundle}")
        landing = Landing(Path(to), bundle.decode(answer.body), force=force)
        try:
            for names in landing.batches():
                wanted = {"blobs": names}
                blobs = self._transport.call("POST", f"{BASE}/blobs/fetch", body=wanted)
                landing.write(bundle.decode_blobs(blobs.body))
            landing.finish()
        finally:
            landing.close()
        return found
