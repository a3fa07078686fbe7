"""The judge: holds what Styx says against what really happened, task by task, attempt by attempt.

As Jepsen did with Chronos, each task that was due is matched with the runs that the ledger saw, and is
complete, incomplete (begun, never ended), missing (said to be done, never run to its end) or extra
(completed more often than its policy allows). Beside that, each promise has a rule of its own here.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tests.chaos.evidence import Evidence, Life, Submit

OVER: Final = frozenset({"succeeded", "failed", "cancelled", "skipped", "lost"})
# Nobody knows how the process ended. No other fault of a machine can happen in a run: none reboots, no
# disk is wiped, nobody is silent for `lost_after`.
LOST: Final = frozenset({"exit_status_lost"})
PROMISES: Final = (
    "acknowledged submits lost",
    "submits made twice",
    "tasks not over",
    "started twice in one attempt",
    "started without an attempt",
    "finished twice",
    "at-most-once started again",
    "exclusive attempts overlapping",
    "wrong exit codes",
    "wrong ends",
    "needs not kept",
    "log lines wrong",
    "orphan processes",
    "wrong answers of the API",
)
NOTHING: Final = Life()


class Verdict(msgspec.Struct):
    violations: dict[str, list[str]]
    classes: dict[str, int]
    figures: dict[str, int]

    @property
    def clean(self) -> bool:
        return not any(self.violations.values())


def judge(evidence: Evidence) -> Verdict:
    return _Judge(evidence).verdict()


class _Judge:
    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.lives = evidence.lives()
        self.violations: dict[str, list[str]] = {promise: [] for promise in PROMISES}
        self.classes: Counter[str] = Counter(complete=0, incomplete=0, missing=0, extra=0)
        self.figures: Counter[str] = Counter()

    def verdict(self) -> Verdict:
        self._submits()
        for submit in self.evidence.submits:
            for name, ids in submit.names.items():
                for task_id in ids:
                    if task := self.evidence.tasks.get(task_id):
                        self._task(submit, submit.spec(name), task)
        self._unasked()
        self.violations["orphan processes"] += self.evidence.orphans
        self.violations["wrong answers of the API"] += self.evidence.refused
        return Verdict(self.violations, dict(self.classes), dict(self.figures))

    def _found(self, promise: str, what: str) -> None:
        self.violations[promise].append(what)

    def _submits(self) -> None:
        known = set(self.evidence.jobs)
        for submit in self.evidence.submits:
            ids = [task_id for ids in submit.names.values() for task_id in ids]
            gone = [task_id for task_id in ids if task_id not in self.evidence.tasks]
            if submit.job_id not in known or gone:
                self._found("acknowledged submits lost", f"{submit.key}: {submit.job_id} {gone}")
            self.figures["submits repeated until answered"] += submit.asked > 1
        extra = known - {submit.job_id for submit in self.evidence.submits}
        for job_id in extra:
            self._found("submits made twice", job_id)

    def _unasked(self) -> None:
        asked = {
            key_of(task, attempt)
            for task in self.evidence.tasks.values()
            for attempt in task["attempts"]
        }
        for key in self.lives.keys() - asked:
            self._found("started without an attempt", key)

    # --- one task -------------------------------------------------------------------------------

    def _task(self, submit: Submit, spec: dict[str, Any], task: dict[str, Any]) -> None:
        attempts = sorted(task["attempts"], key=lambda attempt: attempt["n"])
        lives = [self.lives.get(key_of(task, attempt), NOTHING) for attempt in attempts]
        self.figures["attempts"] += len(attempts)
        self._classify(task, spec, attempts, lives)
        if task["status"] not in OVER:
            self._found("tasks not over", f"{task['id']} is {task['status']}")
            return
        for attempt, life in zip(attempts, lives, strict=True):
            self._attempt(spec, task, attempt, life)
        started = sum(bool(life.starts) for life in lives)
        if spec.get("delivery") == "at_most_once" and started > 1:
            self._found("at-most-once started again", f"{task['id']}: {started} times")
        if spec.get("exclusive"):
            self._overlaps(task, lives)
        for why in self._wrong_end(submit, spec, task, attempts):
            self._found("wrong ends", f"{task['id']} {task['status']} {task['reason']}: {why}")
        self._needs(task, attempts, lives)

    def _classify(
        self,
        task: dict[str, Any],
        spec: dict[str, Any],
        attempts: list[dict[str, Any]],
        lives: list[Life],
    ) -> None:
        done = sum(attempt["status"] == "succeeded" for attempt in attempts)
        if done > 1 or (done and attempts[-1]["status"] != "succeeded"):
            self._found("finished twice", task["id"])
        own = [
            life
            for attempt, life in zip(attempts, lives, strict=True)
            if attempt["exit_code"] is not None and life.ends
        ]
        failures = sum(attempt["exit_code"] not in {None, 0} for attempt in attempts)
        status = task["status"]
        if done > 1 or failures > spec.get("retries", 0) + 1:
            self.classes["extra"] += 1
            if failures > spec.get("retries", 0) + 1:
                self._found("finished twice", f"{task['id']}: {failures} failures counted")
        elif status not in OVER:
            self.classes["incomplete"] += 1
        elif status == "succeeded" or (status == "failed" and task["reason"] == "exit_code"):
            self.classes["complete" if own else "missing"] += 1
        else:
            self.classes[status] += 1
        for attempt, life in zip(attempts, lives, strict=True):
            if attempt["reason"] in LOST:
                self.figures["attempts whose exit was lost"] += 1
                self.figures["… of them, had come to their end"] += bool(life.ends)

    def _overlaps(self, task: dict[str, Any], lives: list[Life]) -> None:
        """Any sign of life of an earlier try after the start of a later one."""
        first = [(life.starts[0], life.marks[-1]) for life in lives if life.starts]
        first.sort()
        for (_, last), (start, _) in itertools.pairwise(first):
            if last > start:
                self._found("exclusive attempts overlapping", task["id"])

    def _wrong_end(
        self,
        submit: Submit,
        spec: dict[str, Any],
        task: dict[str, Any],
        attempts: list[dict[str, Any]],
    ) -> Iterator[str]:
        """What the policy would not have made of these attempts."""
        once = spec.get("delivery") == "at_most_once"
        last = attempts[-1] if attempts else {"status": "", "reason": ""}
        asked = {task["id"], submit.job_id} & set(self.evidence.cancelled)
        lost = sum(attempt["reason"] in LOST for attempt in attempts)
        user = sum(attempt["exit_code"] not in {None, 0} for attempt in attempts)
        match task["status"]:
            case "succeeded":
                if last["status"] != "succeeded":
                    yield f"its last attempt is {last['status']}"
            case "failed" if task["reason"] == "exit_code":
                if not asked and user != (1 if once else spec.get("retries", 0) + 1):
                    yield f"it failed {user} times"
            case "failed" | "lost" if task["reason"] in LOST:
                if lost != (1 if once else spec["infra_retries"] + 1):
                    yield f"{lost} exits were lost"
            case "failed" if task["reason"] == "poison":
                if lost < 3:
                    yield f"only {lost} exits were lost"
            case "cancelled":
                if not asked:
                    yield "nobody asked for that"
            case "skipped":
                if all(self._met(edge) for edge in self._edges(submit, task)):
                    yield "all that it needs was met"
                if attempts:
                    yield "it has attempts"
            case _:
                yield "no rule allows it"

    def _edges(self, submit: Submit, task: dict[str, Any]) -> list[tuple[str, str]]:
        """(task id, on) of each need, from what was submitted."""
        spec = submit.spec(task["name"].partition("/")[0])
        return [
            (task_id, need["on"])
            for need in spec.get("needs", [])
            for task_id in submit.names[need["task"]]
        ]

    def _met(self, edge: tuple[str, str]) -> bool:
        status = self.evidence.tasks[edge[0]]["status"]
        match edge[1]:
            case "success":
                return bool(status == "succeeded")
            case "failure":
                return status in {"failed", "lost"}
            case _:
                return status in OVER

    def _needs(
        self, task: dict[str, Any], attempts: list[dict[str, Any]], lives: list[Life]
    ) -> None:
        """It began only after each task that it waited for had done its last."""
        begun = [life.starts[0] for life in lives if life.starts]
        if not begun:
            return
        for parent_id in task["needs"]:
            parent = self.evidence.tasks.get(parent_id)
            if parent is None or parent["status"] not in OVER:
                self._found("needs not kept", f"{task['id']} ran before {parent_id}")
                continue
            keys = [key_of(parent, attempt) for attempt in parent["attempts"]]
            done = [self.lives[key].marks[-1] for key in keys if key in self.lives]
            if done and max(done) > min(begun):
                self._found("needs not kept", f"{task['id']} began before {parent_id} ended")

    # --- one attempt ----------------------------------------------------------------------------

    def _attempt(
        self, spec: dict[str, Any], task: dict[str, Any], attempt: dict[str, Any], life: Life
    ) -> None:
        key = key_of(task, attempt)
        if len(life.starts) > 1:
            self._found("started twice in one attempt", f"{key}: {len(life.starts)} times")
        for why in self._wrong_exit(spec, attempt, life):
            said = f"{attempt['status']} {attempt['reason']} {attempt['exit_code']}"
            self._found("wrong exit codes", f"{key} {said}: {why}")
        if not attempt["logs_complete"]:
            self._found("log lines wrong", f"{key}: the rest is still awaited")
        ended = bool(life.ends) and len(life.starts) == 1
        for number, name in enumerate(("out", "err")):
            text = self.evidence.output.get(key, ("", ""))[number]
            lines = text.splitlines()
            self.figures["log lines"] += len(lines)
            most = int(spec["env"]["LINES"])
            expected = [f"{key} {name} {i}" for i in range(most if ended else len(lines))]
            if lines != expected or len(lines) > most:
                where = next(
                    (i for i, (a, b) in enumerate(zip(lines, expected, strict=False)) if a != b),
                    min(len(lines), len(expected)),
                )
                told = f"{key} {name}: {len(lines)} of {len(expected)} lines, wrong from {where}"
                self._found("log lines wrong", told)

    def _wrong_exit(
        self, spec: dict[str, Any], attempt: dict[str, Any], life: Life
    ) -> Iterator[str]:
        env = spec["env"]
        code = 7 if attempt["n"] <= int(env["FAILS"]) else int(env["CODE"])
        if life.ends and life.code != code:
            yield f"the ledger has {life.code}"
        match attempt["status"]:
            case "succeeded" | "failed" if attempt["reason"] in {"", "exit_code"}:
                if not life.ends:
                    yield "it never came to its end"
                if attempt["exit_code"] != code or (attempt["status"] == "succeeded") != (not code):
                    yield f"it exits with {code}"
            case "failed" if attempt["reason"] in LOST:
                if attempt["exit_code"] is not None:
                    yield "a code all the same"
                if not self._excused(attempt, life):
                    yield "its supervisor was never killed"
            case "rejected":
                if life.marks:
                    yield "it ran"
            case "cancelled":
                pass
            case _:
                yield "no rule allows it"

    def _excused(self, attempt: dict[str, Any], life: Life) -> bool:
        """Whether its supervisor was killed after it began; unknown is yes."""
        return any(
            name == attempt["agent"] and killed_s >= life.started_s - 0.1
            for name, killed_s in self.evidence.supervisor_kills
        )


def key_of(task: dict[str, Any], attempt: dict[str, Any]) -> str:
    return f"{task['id']}.{attempt['n']}.{attempt['rank']}"
