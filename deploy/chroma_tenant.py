"""What is prepared in the file of a data folder's Chroma: its tenant, and what SQLite plans by.

The tenant's name is its password: `chroma run` asks for no other.

The server listens for every user of the machine and each page in their browsers, lists no tenants, and finds
a collection's records by its id alone, whatever tenant a request names. So everything in Chroma's file is in
one tenant of a random name, under ids that nobody has seen; others cannot make tenants and databases of their
own, to which they could write: a deleted collection's lists go to whoever stores next. This knows the
tables of Chroma 1.5, so pyproject.toml allows no other.

SQLite, told nothing, takes a collection for some ten records, and answers each condition on metadata by going
through all of them, though an index has the few that fulfil it: 70 ms of 150,000, 0.2 ms by the index.
"""

import contextlib
import secrets
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

from shared.config import Settings
from shared.errors import ConfigError

DATABASE: str = Settings.model_fields["chroma_database"].default
_CLOSED = ("tenants", "databases")
_IDS = {  # where the id of a collection is; it is the end of what is there
    "collections": "id",
    "collection_metadata": "collection_id",
    "segments": "collection",
    "embeddings_queue": "topic",
}
# The first makes the table of statistics, if there is none, and nothing else. The last says: of a million
# records, a thousand are of one collection, one of them has one id.
PLAN = (
    "ANALYZE sqlite_master",
    "DELETE FROM sqlite_stat1 WHERE idx = 'sqlite_autoindex_embeddings_1'",
    "INSERT INTO sqlite_stat1 VALUES ('embeddings', 'sqlite_autoindex_embeddings_1', '1000000 1000 1')",
)
_MAKE_FILE = """
import pathlib, sys
from shared.index.connection import in_process_server
in_process_server(pathlib.Path(sys.argv[1]))
"""


def secret_tenant(folder: Path) -> str:
    """Return the tenant's name, after moving everything there. No server may run on the folder.

    One transaction: a crash in it has changed nothing. Raises ConfigError.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    try:
        with contextlib.closing(
            sqlite3.connect(folder / "chroma.sqlite3", timeout=30, isolation_level=None)
        ) as file:
            if not _objects(file, "table", "databases"):
                make_file(folder)
            file.execute("BEGIN IMMEDIATE")
            if _objects(file, "trigger", *map(_trigger, _CLOSED)) < len(_CLOSED):
                _move(file)
            _plan(file)
            [(tenant,)] = file.execute("SELECT tenant_id FROM databases WHERE name = ?", [DATABASE])
            file.execute("COMMIT")
    except (sqlite3.Error, subprocess.SubprocessError) as error:
        raise ConfigError(f"Chroma's file in {folder} cannot be prepared: {error}") from None
    return str(tenant)


def make_file(folder: Path) -> None:
    """Have Chroma make its file, in a process whose end closes it."""
    subprocess.run([sys.executable, "-c", _MAKE_FILE, str(folder)], check=True)


def _move(file: sqlite3.Connection) -> None:
    """Move everything to a new tenant under new ids, and forbid further tenants and databases."""
    tenant = secrets.token_urlsafe(32)
    for table in _CLOSED:
        file.execute(f"DROP TRIGGER IF EXISTS {_trigger(table)}")
    file.execute("INSERT INTO tenants (id) VALUES (?)", [tenant])
    first = "SELECT id FROM databases WHERE name = ? ORDER BY rowid LIMIT 1"
    ours = file.execute(first, [DATABASE]).fetchall() or [(str(uuid.uuid4()),)]
    file.execute("INSERT OR IGNORE INTO databases VALUES (?, ?, ?)", [*ours[0], DATABASE, tenant])
    file.execute("UPDATE databases SET tenant_id = ?, name = CASE id WHEN ? THEN ? ELSE id END",
                 [tenant, *ours[0], DATABASE])  # fmt: skip
    file.create_function("new_id", 0, lambda: str(uuid.uuid4()))
    file.execute("CREATE TEMP TABLE moved (old PRIMARY KEY, new)")
    file.execute("INSERT INTO moved SELECT id, new_id() FROM collections")
    for table, column in _IDS.items():
        length = f"length({column}) - 36"
        file.execute(f"UPDATE {table} SET {column} = substr({column}, 1, {length}) || new FROM moved "  # noqa: S608
                     f"WHERE old = substr({column}, {length} + 1)")  # fmt: skip
    for table in _CLOSED:
        file.execute(
            f"CREATE TRIGGER {_trigger(table)} BEFORE INSERT ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'image-search lets nobody add {table}'); END"
        )


def _plan(file: sqlite3.Connection) -> None:
    """Have SQLite look up the records that an index gives, in place of going through a collection."""
    for statement in PLAN:  # a script would end the transaction
        file.execute(statement)


def _trigger(table: str) -> str:
    return f"no_more_{table}"


def _objects(file: sqlite3.Connection, kind: str, *names: str) -> int:
    query = f"SELECT count(*) FROM sqlite_master WHERE type = ? AND name IN ({', '.join('?' * len(names))})"  # noqa: S608
    [(count,)] = file.execute(query, [kind, *names])
    return int(count)
