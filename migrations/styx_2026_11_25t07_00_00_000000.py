"""The audit trail: rows chained by hash, written in the transaction of what they tell of.

`hash` is SHA-256, in hex, of the text `PREV SEQ ENTRY`, where PREV is the hash of the row before (of the
first row: 64 zeros). So nobody changes, drops or adds a row unseen but at its ends; who keeps the last hash
elsewhere sees that, too.
"""

from piccolo.apps.migrations.auto.migration_manager import MigrationManager
from piccolo.engine import engine_finder

ID = "2026-11-25T07:00:00:000000"
VERSION = "1.38.0"
DESCRIPTION = "the audit trail"

KEPT = 1_000_000  # rows; a third of a gigabyte
SLICE = 1_000  # rows, after each of which the oldest are forgotten

# Only the leader calls it, in a statement that holds the fence. The lock is for the leader's own sake: big jobs
# are committed beside its turns.
CHANGES = f"""
CREATE TABLE audit (
    seq bigint PRIMARY KEY,
    prev text NOT NULL,
    entry text NOT NULL,
    hash text NOT NULL
);

CREATE FUNCTION styx_audit(entries text[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
    hashes text[];
    told text;
BEGIN
    PERFORM pg_advisory_xact_lock(7308907);
    SELECT a.seq, ARRAY[a.hash] INTO number, hashes FROM audit a ORDER BY a.seq DESC LIMIT 1;
    number := coalesce(number, 0);
    hashes := coalesce(hashes, ARRAY[repeat('0', 64)]);
    FOREACH told IN ARRAY entries LOOP
        number := number + 1;
        hashes := hashes || encode(sha256(convert_to(
            hashes[cardinality(hashes)] || ' ' || number || ' ' || told, 'UTF8')), 'hex');
    END LOOP;
    INSERT INTO audit (seq, prev, entry, hash)
    SELECT number - cardinality(entries) + made.place, made.prev, made.told, made.hash
    FROM unnest(hashes[:cardinality(entries)], entries, hashes[2:]) WITH ORDINALITY
        AS made (prev, told, hash, place);
    -- Now and then, so that it costs nothing in between.
    IF number / {SLICE} > (number - cardinality(entries)) / {SLICE} THEN
        DELETE FROM audit a WHERE a.seq <= number - {KEPT};
    END IF;
    RETURN true;
END $$;
"""


async def forwards() -> MigrationManager:
    manager = MigrationManager(migration_id=ID, app_name="styx", description=DESCRIPTION)

    async def run() -> None:
        async with engine_finder().transaction() as transaction:  # the one of all migrations
            await transaction.connection.execute(CHANGES)

    manager.add_raw(run)
    return manager
