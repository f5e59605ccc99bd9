import os
from pathlib import Path

import certifi
import pytest

from shared.config import load_settings
from shared.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MODEL", "CHUNK_SIZE", "ALLOW_HOSTS", "METRICS_PORT", "METRICS_HOST"):
        monkeypatch.delenv(f"IMAGE_SEARCH_{name}", raising=False)


def test_variables_and_the_env_file_are_read_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("IMAGE_SEARCH_MODEL=file\nIMAGE_SEARCH_CHUNK_SIZE=7\n# a comment = 1\n")
    monkeypatch.setenv("IMAGE_SEARCH_MODEL", "environment")
    settings = load_settings()
    assert (settings.model, settings.chunk_size) == ("environment", 7)


def test_metrics_are_shown_to_nobody_by_default_and_then_to_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().metrics_port is None
    monkeypatch.setenv("IMAGE_SEARCH_METRICS_PORT", "9464")
    settings = load_settings()
    assert (settings.metrics_port, settings.metrics_host) == (9464, "127.0.0.1")


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_METRICS_PORT", port)
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_METRICS_PORT"):
        load_settings()


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_ALLOW_HOSTS", "a.example, 10.0.0.0/8,")
    assert load_settings().allow_hosts == ["a.example", "10.0.0.0/8"]


def test_folders_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_SOURCE_FOLDERS", "/srv/pictures, /mnt/a b")
    assert load_settings().source_folders == [Path("/srv/pictures"), Path("/mnt/a b")]
    monkeypatch.setenv("IMAGE_SEARCH_SOURCE_FOLDERS", "/srv,pictures")
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_SOURCE_FOLDERS: pictures is not an absolute path"):
        load_settings()


@pytest.mark.parametrize("where", ["environment", "file"])
def test_an_unknown_variable_stops_the_start_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "file":
        (tmp_path / ".env").write_text("IMAGE_SEARCH_MODLE=x\n")
    else:
        monkeypatch.setenv("IMAGE_SEARCH_MODLE", "x")
    with pytest.raises(ConfigError, match="IMAGE_SEARCH_MODLE"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHUNK_SIZE", "many"),
        ("DEVICE", "tpu"),
        ("KEEP", "all"),
        ("FETCH_TIMEOUT_S", "0"),
        ("FETCH_USER_AGENT", "  "),
        ("FETCH_USER_AGENT", "a\r\nX-Evil: b"),
        ("FETCH_USER_AGENT", "caf\u00e9"),
        ("FETCH_USER_AGENT", "a" * 257),
        ("CA_BUNDLE", "nowhere.pem"),
        ("CA_BUNDLE", "/"),
        ("CA_BUNDLE", __file__),
        ("NSFW_MAX", "1.5"),
        ("TAG_MIN_SCORE", "nan"),
        ("RATE_LIMIT", "often"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "10/minute;0/hour"),
        ("RATE_LIMIT", "-5/minute"),
    ],
)
def test_a_malformed_variable_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"IMAGE_SEARCH_{name}", value)
    with pytest.raises(ConfigError, match=f"IMAGE_SEARCH_{name}") as raised:
        load_settings()
    assert "\n" not in raised.value.detail


def test_a_file_of_certificates_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours.pem").write_bytes(Path(certifi.where()).read_bytes())
    monkeypatch.setenv("IMAGE_SEARCH_CA_BUNDLE", "ours.pem")
    assert load_settings().ca_bundle == Path("ours.pem")
    (tmp_path / "ours.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match=r"IMAGE_SEARCH_CA_BUNDLE: .*ours.pem is no file of certificates"):
        load_settings()
    (tmp_path / "ours.pem").unlink()
    os.mkfifo(tmp_path / "ours.pem")  # as of `<(cat ...)`, which hangs at a second reading
    with pytest.raises(ConfigError, match="is no file of certificates"):
        load_settings()


@pytest.mark.parametrize("value", ["off", "10/second", "10 per second;500/hour"])
def test_a_rate_limit_is_a_rate_or_several_or_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_RATE_LIMIT", value)
    assert load_settings().rate_limit == value


def test_the_client_s_key_is_not_the_servers_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_API_KEY", "k")
    load_settings()


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_CALLBACK_SECRET", "hush-hush")
    assert "hush-hush" not in repr(load_settings())


def test_celery_gets_a_unix_socket_in_its_own_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_SEARCH_REDIS_URL", "unix:///run/redis.sock?db=2")
    assert load_settings().celery_broker_url == "redis+socket:///run/redis.sock?virtual_host=2"
