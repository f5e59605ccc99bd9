import json
import os
import socket
import stat
from pathlib import Path

import pytest

from deploy.data_folder import Folder, hold
from deploy.embedded import (
    MAX_SOCKET_PATH_BYTES,
    _check_metrics_ports,
    _environment,
    _redis_socket,
    metrics_ports,
    role_children,
)
from deploy.ports import check_port_free, free_port, http_status, reachable_host
from shared.config import Settings
from shared.errors import ConfigError
from shared.models import Stage

METRICS_PORT = "IMAGE_SEARCH_METRICS_PORT"


@pytest.mark.parametrize("name", ["a folder", "ümlaut", "x" * MAX_SOCKET_PATH_BYTES])
def test_a_folder_that_no_socket_path_can_name_gets_a_private_short_one(tmp_path: Path, name: str) -> None:
    with _redis_socket(Folder(tmp_path / name)) as path:
        assert len(str(path)) <= MAX_SOCKET_PATH_BYTES
        assert str(path).isascii()
        assert " " not in str(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


def test_a_port_is_remembered_while_it_is_free(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.run.mkdir()
    port = folder.remembered_port("api")
    assert folder.remembered_port("api") == port
    other = folder.remembered_port("api", {port})  # which a page of metrics will have
    assert other != port
    assert folder.remembered_port("api") == other


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            check_port_free("127.0.0.1", port)


def test_a_held_folder_says_who_holds_it_and_is_free_afterwards(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.run.mkdir()
    with hold(folder):
        assert folder.running() is not None
        with pytest.raises(ConfigError, match=f"pid {folder.running()}"), hold(folder):
            pass
    assert folder.running() is None


def test_a_folder_that_was_there_before_is_made_private_with_all_in_it(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "blobs").mkdir(parents=True, mode=0o755)
    (root / "blobs" / "key.json").write_text("{}")
    (root / "link").symlink_to(tmp_path)
    (root / "blobs" / "key.json").chmod(0o644)
    root.chmod(0o755)
    tmp_path.chmod(0o755)
    Folder(root).make_private()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert modes.pop("link") == 0o755, "what a link leads to is not ours"
    assert modes == {"data": 0o700, "blobs": 0o700, "run": 0o700, "key.json": 0o600}


def test_a_new_folder_is_private_whatever_the_umask(tmp_path: Path) -> None:
    folder, before = Folder(tmp_path / "data"), os.umask(0)
    try:
        folder.make_private()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.root, folder.run)] == [0o700] * 2


def test_a_server_that_is_not_there_has_no_status() -> None:
    assert http_status(f"http://127.0.0.1:{free_port()}/readyz") is None


@pytest.mark.parametrize(
    ("bound", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")]
)
def test_an_address_to_listen_on_becomes_one_to_reach(bound: str, reached: str) -> None:
    assert reachable_host(bound) == reached


def test_the_workers_of_one_machine_give_way_to_its_api() -> None:
    children = role_children("127.0.0.1", 8000, fetch_workers=1, encode_workers=1)
    assert {child.name for child in children if child.niceness > 0} == set(Stage)


def test_each_worker_and_the_sweeper_show_their_metrics_on_a_port_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("image_search_Metrics_Port", "9464")
    folder = Folder(tmp_path)
    folder.run.mkdir()
    shared = _environment(folder, Settings(_env_file=None), {"URL": "http://127.0.0.1:8000"})
    assert not [name for name in shared if name.upper() == METRICS_PORT]
    told = json.loads((folder.run / "settings.json").read_text())
    assert (told[METRICS_PORT], told["IMAGE_SEARCH_METRICS_HOST"]) == ("9464", "127.0.0.1")
    children = role_children("127.0.0.1", 8000, 1, 1, metrics_ports(9464))
    assert {child.name: child.env.get(METRICS_PORT) for child in children} == {
        "api": None,
        "fetch": "9464",
        "encode": "9465",
        "index": "9466",
        "sweep": "9467",
    }


def test_without_a_port_nobody_shows_metrics() -> None:
    children = role_children("127.0.0.1", 8000, 1, 1, metrics_ports(None))
    assert [child.env for child in children] == [{}] * 5


def test_all_ports_of_metrics_have_to_be_free_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(ConfigError, match=f"metrics of sweep on 127.0.0.1:{taken}: .* first of 1 in a"):
            _check_metrics_ports({"sweep": taken}, "127.0.0.1", 8000)
    port = free_port()
    _check_metrics_ports({"fetch": port}, "127.0.0.1", 8000)
    with pytest.raises(ConfigError, match="of fetch"):
        _check_metrics_ports({"fetch": port}, "127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"of encode on .*:65536"):
        _check_metrics_ports({"encode": 65_536}, "127.0.0.1", 8000)
    for host in ("192.0.2.1", "a..b"):
        with pytest.raises(ConfigError, match=f"on {host}:"):
            _check_metrics_ports({"fetch": port}, host, 8000)
