import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from deploy.chroma_tenant import DATABASE, PLAN, secret_tenant
from shared.errors import ConfigError

# As it was before: in the tenant that everybody knows; somebody else had made one, too.
MAKE_OLD = """
import sys, chromadb
here = chromadb.config.Settings(is_persistent=True, persist_directory=sys.argv[1], anonymized_telemetry=False)
admin = chromadb.AdminClient(here)
admin.create_tenant("theirs")
admin.create_database("default_database", "theirs")
for tenant in ("default_tenant", "theirs"):
    client = chromadb.PersistentClient(sys.argv[1], here, tenant=tenant)
    for name in ("pictures", "keys"):
        made = client.create_collection(name, metadata={"of": tenant})
        made.add([f"{tenant}-{n}" for n in range(3)], [[float(n), 1.0] for n in range(3)])
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-c", MAKE_OLD, str(folder)], check=True, timeout=120)
    return folder


@pytest.fixture
def folder(old: Path, tmp_path: Path) -> Path:
    return shutil.copytree(old, tmp_path / "chroma")


def _rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as file:
        return sorted(file.execute(query))


def _contents(folder: Path) -> list[Any]:
    """What a search goes by, from the database to the records, without the ids that hold it together."""
    return _rows(
        folder,
        """SELECT c.name, m.str_value, s.id, s.scope, q.id FROM collections c
        JOIN databases d ON d.id = database_id JOIN tenants t ON t.id = tenant_id
        JOIN collection_metadata m ON m.collection_id = c.id JOIN segments s ON s.collection = c.id
        JOIN embeddings_queue q ON q.topic = 'persistent://default/default/' || c.id""",
    )


def _check_moved(folder: Path, before: Path, tenant: str) -> None:
    assert _contents(folder) == _contents(before) != []
    assert {name for (name,) in _rows(folder, "SELECT tenant_id FROM databases")} == {tenant}
    (ours,) = _rows(folder, f"SELECT id FROM databases WHERE name = '{DATABASE}'")
    assert ours == _rows(before, "SELECT id FROM databases WHERE tenant_id = 'default_tenant'")[0]
    tables = ("collections", "collection_metadata", "segments", "embeddings_queue")
    held = "".join(str(row) for table in tables for row in _rows(folder, f"SELECT * FROM {table}"))
    assert [name for (name,) in _rows(before, "SELECT id FROM collections") if name in held] == []


def test_what_was_in_the_tenant_that_everybody_knows_is_moved_and_has_new_ids(
    folder: Path, old: Path
) -> None:
    tenant = secret_tenant(folder)
    _check_moved(folder, old, tenant)
    assert len(tenant) == len("0123456789abcdef" * 2) * 4 // 3 + 1, "256 bits"


def test_the_name_stays(folder: Path) -> None:
    tenant = secret_tenant(folder)
    before = _rows(folder, "SELECT id FROM collections")
    assert secret_tenant(folder) == tenant
    assert _rows(folder, "SELECT id FROM collections") == before


@pytest.mark.parametrize(
    "row", ["tenants VALUES ('mine')", "databases VALUES ('1', 'mine', 'default_tenant')"]
)
def test_nobody_can_add_a_tenant_or_a_database(folder: Path, row: str) -> None:
    secret_tenant(folder)
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as file:
        for insert in ("INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE"):
            with pytest.raises(sqlite3.IntegrityError, match="image-search lets nobody add"):
                file.execute(f"{insert} INTO {row}")


def test_a_new_folder_is_closed_before_the_first_server_starts(tmp_path: Path) -> None:
    folder = tmp_path / "chroma"
    tenant = secret_tenant(folder)
    assert _rows(folder, "SELECT name, tenant_id FROM databases") == [(DATABASE, tenant)]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_door_that_a_newer_chroma_has_taken_out_is_put_in_again(folder: Path, old: Path) -> None:
    first = secret_tenant(folder)
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as file:
        file.execute("DROP TRIGGER no_more_databases")
        file.commit()
    second = secret_tenant(folder)
    assert second != first
    _check_moved(folder, old, second)


def _killed_at(statement: int, folder: Path) -> bool:
    """Whether a process got as far as this statement and no further, as by `kill -9`."""
    pid = os.fork()
    if pid == 0:
        connect, passed = sqlite3.connect, count()

        def connect_and_count(*arguments: Any, **named: Any) -> sqlite3.Connection:
            file = connect(*arguments, **named)
            file.set_trace_callback(lambda _: os._exit(9) if next(passed) == statement else None)
            return file

        sqlite3.connect = connect_and_count  # type: ignore[assignment]
        try:
            secret_tenant(folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def test_a_kill_at_any_moment_loses_nothing(folder: Path, old: Path) -> None:
    statement = 0
    while _killed_at(statement, folder):
        assert _contents(folder) == _contents(old), f"killed at statement {statement}"
        statement += 1
    assert statement > 10
    _check_moved(folder, old, secret_tenant(folder))


def test_a_file_that_is_none_of_chromas_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(
        ConfigError, match=f"Chroma's file in {tmp_path} cannot be prepared: .*not a database"
    ):
        secret_tenant(tmp_path)


def test_sqlite_looks_up_the_records_that_an_index_gives(folder: Path) -> None:
    for _ in range(2):  # of a file that has the statistics, too
        secret_tenant(folder)
    plan = """EXPLAIN QUERY PLAN SELECT DISTINCT embeddings.id, embedding_id FROM embeddings
        WHERE segment_id = 's' AND embeddings.id IN (SELECT id FROM embedding_metadata
            WHERE key = 'created_at' AND float_value >= 1 UNION SELECT 1) ORDER BY embeddings.id"""
    assert any("embeddings USING INTEGER PRIMARY KEY" in step for *_, step in _rows(folder, plan))
    assert len(_rows(folder, "SELECT * FROM sqlite_stat1 WHERE tbl = 'embeddings'")) == 1


def test_a_chroma_of_ones_own_is_told_the_same() -> None:
    told = (Path(__file__).parents[3] / "docs/keys.md").read_text(encoding="utf-8")
    assert f'`sqlite3 chroma.sqlite3 "{"; ".join(PLAN)}"`' in told
