"""`styx audit`: a table, an export, and a chain that is checked."""

import getpass
import json

from tests.support.site import Site


def test_the_trail_is_shown_exported_and_checked(site: Site) -> None:
    task_id = site.submit(name="audited", command="true")
    job_id = site.task(task_id)["job_id"]
    exported = site.cli("audit", "-o", "jsonl").stdout.decode().splitlines()
    last = json.loads(exported[-1])
    assert (last["action"], last["object_id"]) == ("job.submit", job_id)
    assert last["actor"] == f"peer:{getpass.getuser()}"
    shown = site.cli("audit", "--since", str(last["seq"] - 1)).stdout.decode()
    assert job_id in shown
    assert "audited: 1 tasks" in shown
    checked = site.cli("audit", "--verify")
    assert checked.returncode == 0, checked.stderr
    assert f"whole up to {last['seq']}, {last['hash']}" in checked.stderr.decode()
