"""What a server keeps for its clients beside tasks: schedules, and files that go with tasks."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from styx.core import bundle
from styx.parcel.landing import Landing
from styx.sdk.aio.calls import BASE, AsyncCalls, segment
from styx.sdk.fields import Document
from styx.wire import http as wire
from styx.wire import parcel


class AsyncKept(AsyncCalls):
    __doc__ = AsyncCalls.__doc__

    # --- schedules --------------------------------------------------------------------------------

    async def put_schedule(self, name: str, job: Document) -> wire.ScheduleDetail:
        """Create or replace; `job` holds its `schedule`."""
        return await self._put(wire.ScheduleDetail, f"/schedules/{segment(name)}", job)

    def schedules(self, *, limit: int | None = None) -> AsyncIterator[wire.ScheduleView]:
        return self._pages(wire.ScheduleView, "/schedules", {}, limit)

    async def schedule(self, name: str) -> wire.ScheduleDetail:
        return await self._read(wire.ScheduleDetail, f"/schedules/{segment(name)}")

    async def pause_schedule(self, name: str) -> wire.ScheduleView:
        return await self._post(wire.ScheduleView, f"/schedules/{segment(name)}/pause")

    async def resume_schedule(self, name: str) -> wire.ScheduleView:
        return await self._post(wire.ScheduleView, f"/schedules/{segment(name)}/resume")

    async def run_schedule(self, name: str, *, key: str = "") -> wire.ScheduleRun:
        """A job of it now. The same `key` again gives the same job."""
        return await self._post(wire.ScheduleRun, f"/schedules/{segment(name)}/run", key=key)

    async def delete_schedule(self, name: str) -> wire.ScheduleView:
        return await self._delete(wire.ScheduleView, f"/schedules/{segment(name)}")

    # --- files (`sdk.sending` packs and sends a directory) ----------------------------------------

    async def files(self) -> parcel.FilesView:
        """How much may be sent."""
        return await self._read(parcel.FilesView, "/files")

    async def offer_bundle(self, manifest: bytes) -> parcel.BundleView:
        """What is missing of it; when nothing is, tasks may name it."""
        return await self._post(parcel.BundleView, "/bundles", body=manifest)

    async def send_blobs(self, blobs: bytes) -> None:
        """As `core.bundle.encode_blobs` makes them."""
        await self._post(parcel.BlobsKept, "/blobs", body=blobs, media_type=bundle.BLOBS_TYPE)

    # --- what tasks have left ---------------------------------------------------------------------

    async def outputs(self, task: str) -> parcel.OutputsView:
        """Raises: NotFound, while there are none, or when they are gone."""
        return await self._read(parcel.OutputsView, f"/tasks/{segment(task)}/outputs")

    async def download(
        self, task: str, to: str | os.PathLike[str], *, force: bool = False
    ) -> parcel.OutputsView:
        """Lay what the task has left into the directory `to`, which is made if need be. Nothing is there before
        all of it has come. Raises: NotFound; Conflict, naming what is there already, unless by `force`.
        """
        found = await self.outputs(task)
        answer = await self._transport.call("GET", f"{BASE}/bundles/{found.bundle}")
        landing = Landing(Path(to), bundle.decode(answer.body), force=force)
        try:
            for names in landing.batches():
                wanted = {"blobs": names}
                blobs = await self._transport.call("POST", f"{BASE}/blobs/fetch", body=wanted)
                landing.write(bundle.decode_blobs(blobs.body))
            landing.finish()
        finally:
            landing.close()
        return found
