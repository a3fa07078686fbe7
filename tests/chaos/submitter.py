"""Clients that want their work done: each repeats every request under its key until it is answered."""

import threading
import time
from collections.abc import Sequence
from typing import Final

from tests.chaos.client import Answer, Client
from tests.chaos.evidence import Submit
from tests.chaos.rig import Rig
from tests.chaos.workload import Plan

THREADS: Final = 3
REQUEST_S: Final = 6.0  # a request to a frozen server is given up after that


class Submitters:
    """Spread the plans over `within_s`. `done` once each is acknowledged and its cancels are, too."""

    def __init__(self, rig: Rig, plans: Sequence[Plan], within_s: float) -> None:
        self.submits: list[Submit] = []
        self.cancelled: list[str] = []
        self.refused: list[str] = []
        self._rig = rig
        began = time.monotonic()
        moments = [(began + within_s * i / len(plans), plan) for i, plan in enumerate(plans)]
        self._threads = [
            threading.Thread(target=self._run, args=(moments[number::THREADS],), daemon=True)
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, moments: Sequence[tuple[float, Plan]]) -> None:
        wishes: list[tuple[float, str]] = []  # when to ask for which path
        left = list(moments)
        with self._rig.client(REQUEST_S) as client:
            while left or wishes:
                now = time.monotonic()
                if left and left[0][0] <= now:
                    _, plan = left.pop(0)
                    if submit := self._submit(client, plan):
                        self.submits.append(submit)
                        wishes += self._wishes(plan, submit, now)
                        wishes.sort()
                elif wishes and wishes[0][0] <= now:
                    self._cancel(client, wishes.pop(0)[1])
                else:
                    time.sleep(0.02)

    def _submit(self, client: Client, plan: Plan) -> Submit | None:
        before = client.asked
        headers = {"Idempotency-Key": plan.key}
        answer = client.settle("POST", plan.path, plan.document, headers)
        if answer.status not in {200, 201}:
            self._refuse(answer, plan.path)
            return None
        given = answer.json()
        asked = client.asked - before
        if plan.path.endswith("tasks"):
            task_id = given["task_id"]
            job_id = client.get(f"/api/v1/tasks/{task_id}")["job_id"]
            names = {plan.document["name"]: [task_id]}
        else:
            job_id = given["job_id"]
            names = _names(given["task_ids"])
        return Submit(plan.key, plan.path, plan.document, job_id, names, asked)

    @staticmethod
    def _wishes(plan: Plan, submit: Submit, now: float) -> list[tuple[float, str]]:
        return [
            (
                now + after_s,
                f"tasks/{submit.names[name][0]}" if name else f"jobs/{submit.job_id}",
            )
            for name, after_s in plan.cancels
        ]

    def _cancel(self, client: Client, what: str) -> None:
        answer = client.settle("POST", f"/api/v1/{what}/cancel")
        if answer.status in {200, 202}:
            self.cancelled.append(what.partition("/")[2])
        else:
            self._refuse(answer, f"{what}/cancel")

    def _refuse(self, answer: Answer, path: str) -> None:
        self.refused.append(f"{path}: {answer.status} {answer.body[:300].decode(errors='replace')}")


def _names(task_ids: dict[str, str | list[str]]) -> dict[str, list[str]]:
    return {name: [ids] if isinstance(ids, str) else ids for name, ids in task_ids.items()}
