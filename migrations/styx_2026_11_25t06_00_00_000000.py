"""States change along the tables of `styx.core` only, and attempts are counted one by one.

A turn may move a row several times, and the database sees only where it ends. So the allowed moves are
those of one or more steps along a table; tests/store/test_guards.py holds them against the tables.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-11-25T06:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "guards of states and attempt numbers"

_RUN = "succeeded failed cancelled"
MOVES = {
    "jobs": {"running": f"{_RUN} lost"},
    "tasks": {
        "blocked": f"ready active skipped {_RUN} lost",
        "ready": f"active {_RUN} lost",
        "active": f"ready {_RUN} lost",
    },
    "attempts": {
        "assigned": f"accepted running rejected {_RUN} preempted lost",
        "accepted": f"running rejected {_RUN} preempted lost",
        "running": f"{_RUN} preempted lost",
    },
}


def moves(table: str) -> str:
    """A condition that holds where the state moves as it must not."""
    allowed = " OR ".join(
        f"OLD.state = '{before}' AND NEW.state IN ({', '.join(map(repr, after.split()))})"
        for before, after in MOVES[table].items()
    )
    return f"NEW.state <> OLD.state AND NOT ({allowed})"


# Conditions are the triggers' own: what is allowed costs no call of a function.
CHANGES = f"""
CREATE FUNCTION styx_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% was to become % in %', OLD.state, NEW.state, TG_TABLE_NAME
        USING ERRCODE = 'ST002';
END $$;

CREATE FUNCTION styx_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'attempt % was to follow % of task %', NEW.attempt, OLD.attempt, OLD.id
        USING ERRCODE = 'ST002';
END $$;

CREATE FUNCTION styx_current() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM tasks WHERE id = NEW.task_id AND attempt = NEW.n) THEN
        RAISE EXCEPTION 'attempt % is not the current one of task %', NEW.n, NEW.task_id
            USING ERRCODE = 'ST002';
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER final ON jobs;
DROP TRIGGER final ON tasks;
DROP TRIGGER final ON attempts;
DROP FUNCTION styx_final();

CREATE TRIGGER moves BEFORE UPDATE OF state ON jobs FOR EACH ROW
    WHEN ({moves("jobs")}) EXECUTE FUNCTION styx_moved();
CREATE TRIGGER moves BEFORE UPDATE OF state ON tasks FOR EACH ROW
    WHEN ({moves("tasks")}) EXECUTE FUNCTION styx_moved();
CREATE TRIGGER moves BEFORE UPDATE OF state ON attempts FOR EACH ROW
    WHEN ({moves("attempts")}) EXECUTE FUNCTION styx_moved();
CREATE TRIGGER counted BEFORE UPDATE OF attempt ON tasks FOR EACH ROW
    WHEN (NEW.attempt <> OLD.attempt AND NEW.attempt <> OLD.attempt + 1)
    EXECUTE FUNCTION styx_counted();
-- Of first attempts the primary key sees to it that there is one, without a look at the task.
CREATE TRIGGER current BEFORE INSERT ON attempts FOR EACH ROW
    WHEN (NEW.n <> 1) EXECUTE FUNCTION styx_current();
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
