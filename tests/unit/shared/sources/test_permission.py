import os
from pathlib import Path
from typing import Any

import pytest

from shared.config import Settings
from shared.errors import InvalidRequest
from shared.sources.permission import (
    canonical,
    check_location,
    permitted_object,
    permitted_path,
    permitted_prefix,
)

SECRET = "hunter2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine: pictures that a source may read, `up`'s data beside them, and something else."""
    root = tmp_path.resolve()
    for name in ("pictures/2026", "up/blobs/keys", "up/redis", "up/run", "elsewhere"):
        (root / name).mkdir(parents=True)
    (root / "up/run/lock").touch()
    (root / "elsewhere/secret.jpg").touch()
    return root


def settings(folder: Path, *allowed: str, **others: Any) -> Settings:
    folders = [folder / name for name in allowed or ("pictures",)]
    return Settings(
        _env_file=None, source_folders=folders, **{"blob_url": f"file://{folder}/up/blobs", **others}
    )


def in_s3(blob_url: str) -> Settings:
    return Settings(_env_file=None, blob_url=blob_url)


def refused(settings: Settings, location: str) -> str:
    """The sentence by which a location is refused: it points to the field and shows nothing of a secret."""
    with pytest.raises(InvalidRequest) as caught:
        check_location(settings, location)
    error = caught.value
    assert error.errors == [{"pointer": "/from", "message": error.detail}]
    assert SECRET not in error.detail
    return error.detail


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket",
        "s3://bucket/a/prefix/",
        "S3://bucket/prefix",
        "https://shop.example/feed.csv?token=1",
        "http://[2001:db8::1]/feed",
        "https://shop.example/a::b.csv",
        "HTTPS://shop.example/sitemap.xml.gz",
    ],
)
def test_buckets_and_web_servers_are_named_by_their_urls(folder: Path, location: str) -> None:
    check_location(settings(folder), location)


@pytest.mark.parametrize(
    "spelling", ["file://{}/pictures", "FILE://{}/pictures/2026/", "file:///{}//pictures"]
)
def test_a_folder_below_one_that_is_named_may_be_read(folder: Path, spelling: str) -> None:
    check_location(settings(folder), spelling.format(folder))


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("zip::s3://bucket/a.zip", "Chained"),
        ("simplecache::https://shop.example/a", "Chained"),
        ("filecache::s3://bucket", "Chained"),
        ("zip://a.csv::file:///etc/a.zip", "Chained"),
        ("s3://bucket/a::file:///etc", "Chained"),
        ("file:///pictures::memory://x", "Chained"),
        ("https::file:///etc", "Chained"),
        ("s3a://bucket", "must begin with"),
        ("memory://x", "must begin with"),
        ("data:text/csv,url", "must begin with"),
        ("http+unix://%2Frun%2Fa.sock/", "must begin with"),
        ("ftp://host/feed.csv", "must begin with"),
        ("local:///etc", "must begin with"),
        ("gs://bucket", "must begin with"),
        ("/etc", "must begin with"),
        ("bucket/prefix", "must begin with"),
        ("", "must begin with"),
        ("s3:bucket", "comes `//`"),
        ("file:/etc", "comes `//`"),
        ("file:etc", "comes `//`"),
        ("https:/shop.example", "comes `//`"),
        ("s3://", "s3://bucket"),
        ("s3:///prefix", "s3://bucket"),
        ("s3://arn:aws:s3:eu-1:1:accesspoint/a", "s3://bucket"),
        ("s3://bucket/../other", "`.` or `..`"),
        ("s3://bucket/a/./b", "`.` or `..`"),
        ("s3://bucket/%2e%2e/b", "percent-encoded"),
        ("s3://bucket/a?versionId=1", "no `?`"),
        ("s3://bucket/a#b", "no `?`"),
        ("s3://bucket/a\\..\\b", "backslash"),
        ("s3://bucket/a\0b", "control characters"),
        ("s3://bucket/a\nb", "control characters"),
        ("s3://bucket/\u202efdp", "control characters"),
        (" s3://bucket", "blanks"),
        ("s3://bucket/" + "a" * 2_048, "at most 2,048"),
    ],
)
def test_what_is_written_otherwise_is_refused_by_a_sentence(
    folder: Path, location: str, sentence: str
) -> None:
    assert sentence in refused(settings(folder), location)


@pytest.mark.parametrize(
    "location",
    [
        f"https://user:{SECRET}@shop.example/feed.csv",
        f"http://{SECRET}@shop.example/feed.csv",
        f"s3://AKIA:{SECRET}@bucket/prefix",
        f"file://user:{SECRET}@host/etc",
        f"https:{SECRET}@shop.example",
    ],
)
def test_credentials_are_refused_and_not_shown(folder: Path, location: str) -> None:
    refused(settings(folder), location)


def test_whoever_sends_credentials_is_told_where_they_belong(folder: Path) -> None:
    assert "FETCH_HEADERS" in refused(settings(folder), "https://user:pw@shop.example/feed.csv")
    assert "AWS_" in refused(settings(folder), "s3://key:pw@bucket")


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc",
        "FILE:///etc/",
        "file:////etc",
        "file:///",
        "file:///proc/self/root/etc",
        "file://{}",
        "file://{}/elsewhere",
        "file://{}/pictures-2",
        "file://{}/pictures/../elsewhere",
        "file://{}/pictures/..",
        "file://{}/pictures/%2e%2e/elsewhere",
        "file://{}/pictures/%2E%2E%2Felsewhere",
        "file://{}/PICTURES",
        "file://{}/pictures?",
        "file://{}/pictures#",
        "file://localhost{}/pictures",
        "file://host/share",
        "file://~/pictures",
        "file://./pictures",
        "file://{}/pictures\0/elsewhere",
    ],
)
def test_no_other_folder_is_read_however_it_is_spelled(folder: Path, location: str) -> None:
    refused(settings(folder), location.format(folder))


def test_without_the_setting_no_folder_is_read(folder: Path) -> None:
    none = Settings(_env_file=None, blob_url=f"file://{folder}/up/blobs")
    assert "IMAGE_SEARCH_SOURCE_FOLDERS names none" in refused(none, f"file://{folder}/pictures")


def test_a_link_leads_where_it_leads(folder: Path) -> None:
    (folder / "pictures/out").symlink_to(folder / "elsewhere")
    (folder / "pictures/in").symlink_to(folder / "pictures/2026")
    (folder / "pictures/file.jpg").symlink_to(folder / "elsewhere/secret.jpg")
    (folder / "pictures/loop").symlink_to(folder / "pictures/loop")
    chosen = settings(folder)
    refused(chosen, f"file://{folder}/pictures/out")
    refused(chosen, f"file://{folder}/pictures/out/")
    assert permitted_path(chosen, f"file://{folder}/pictures/in") == folder / "pictures/2026"
    with pytest.raises(InvalidRequest):
        permitted_path(chosen, f"file://{folder}/pictures/file.jpg")
    with pytest.raises(InvalidRequest):
        permitted_path(chosen, f"file://{folder}/pictures/in/../../elsewhere/secret.jpg")


def test_a_folder_that_is_named_may_be_a_link_itself(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "pictures")
    chosen = settings(folder, "link")
    assert permitted_path(chosen, f"file://{folder}/link/2026") == folder / "pictures/2026"
    check_location(chosen, f"file://{folder}/pictures")
    refused(chosen, f"file://{folder}/elsewhere")


def test_a_folder_that_is_not_there_yet_is_judged_by_its_path(folder: Path) -> None:
    chosen = settings(folder, "mounted-later")
    check_location(chosen, f"file://{folder}/mounted-later/a")
    refused(chosen, f"file://{folder}/not-mounted")


def test_a_file_is_read_by_its_name_as_it_is(folder: Path) -> None:
    for name in ("a b.jpg", "100%25.jpg", "what?.jpg", "no#1.jpg", "a::b.jpg", "back\\slash.jpg"):
        found = permitted_path(settings(folder), f"file://{folder}/pictures/{name}")
        assert found == folder / "pictures" / name


@pytest.mark.parametrize(
    "name", ["up/blobs", "up/blobs/keys", "up", "up/redis", "up/run", "", "up//blobs/", "up/blobs/new"]
)
def test_the_deployment_s_own_data_is_no_source_nor_what_is_above_or_below(folder: Path, name: str) -> None:
    chosen = settings(folder, "")
    assert "deployment's own data" in refused(chosen, f"file://{folder}/{name}")
    check_location(chosen, f"file://{folder}/elsewhere")


def test_beside_a_blob_folder_that_is_not_of_up_pictures_may_lie(folder: Path) -> None:
    (folder / "up/run/lock").unlink()
    chosen = settings(folder, "")
    check_location(chosen, f"file://{folder}/up/redis")
    refused(chosen, f"file://{folder}/up")


@pytest.mark.parametrize(
    "blob_url", ["file://{}/link", "{}/link", "local://{}/link", "file://{}/up/../link/"]
)
def test_the_blob_folder_is_known_by_any_spelling_and_link(folder: Path, blob_url: str) -> None:
    (folder / "link").symlink_to(folder / "up/blobs")
    (folder / "pictures/link").symlink_to(folder / "up/blobs/keys")
    chosen = settings(folder, "", blob_url=blob_url.format(folder))
    refused(chosen, f"file://{folder}/up/blobs")
    refused(chosen, f"file://{folder}/pictures/link")
    with pytest.raises(InvalidRequest):
        permitted_path(chosen, f"file://{folder}/pictures/link/a.json")


def test_a_relative_blob_folder_is_where_the_process_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    refused(settings(folder, "", blob_url="file://./up/blobs"), f"file://{folder}/up/blobs")


def test_a_folder_that_is_mounted_twice_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a bind mount is, whose folder has the same device and inode at both places."""
    (folder / "pictures/mount/keys").mkdir(parents=True)
    real = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        twin = str(path).replace(f"{folder}/pictures/mount", f"{folder}/up/blobs")
        return real(Path(twin), **options)

    monkeypatch.setattr(Path, "stat", stat)
    refused(settings(folder), f"file://{folder}/pictures/mount")
    refused(settings(folder), f"file://{folder}/pictures/mount/keys")
    with pytest.raises(InvalidRequest):  # which a listing of what is above may meet
        permitted_path(settings(folder), f"file://{folder}/pictures/mount/keys/a.json")


@pytest.mark.parametrize(
    "blob_url", ["s3://bucket/is/blobs", "s3a://bucket/is/blobs/", "simplecache::s3://bucket/is/blobs"]
)
@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/is",
        "s3://bucket/is/blobs",
        "s3://bucket/is/blobs/",
        "s3://bucket//is///blobs",
        "s3://bucket/is/blobs/keys",
        "S3://BUCKET/Is/Blobs",
    ],
)
def test_the_deployment_s_bucket_is_no_source_nor_what_is_above_or_below(
    blob_url: str, location: str
) -> None:
    assert "own store of files" in refused(in_s3(blob_url), location)


@pytest.mark.parametrize(
    "location", ["s3://bucket/is/blobs-2", "s3://bucket/i", "s3://bucket-2", "s3://bucket/is/b"]
)
def test_another_prefix_of_that_bucket_may_be_one(location: str) -> None:
    check_location(in_s3("s3://bucket/is/blobs"), location)


def test_a_whole_bucket_of_the_deployment_s_is_no_source() -> None:
    refused(in_s3("s3://bucket"), "s3://bucket/pictures")
    check_location(in_s3("s3://bucket"), "s3://other/pictures")


def test_a_prefix_is_a_folder_s() -> None:
    chosen = in_s3("s3://bucket/blobs")
    assert permitted_prefix(chosen, "s3://other/a/b") == ("other", "a/b/")
    assert permitted_prefix(chosen, "s3://other/a/b/") == ("other", "a/b/")
    assert permitted_prefix(chosen, "s3://other/") == ("other", "")
    assert permitted_prefix(chosen, "s3://bucket/blob") == ("bucket", "blob/")


def test_an_object_is_read_by_its_key_as_it_is_but_none_of_the_deployment_s() -> None:
    chosen = in_s3("s3://bucket/blobs")
    for key in ("a b.jpg", "a%20b.jpg", "a?versionId=1.jpg", "/a//b.jpg", "blobs-2/a.jpg", "a/../b.jpg"):
        assert permitted_object(chosen, f"s3://bucket/{key}") == ("bucket", key)
    for key in ("blobs/keys/a.json", "/blobs/a", "blobs//a", "Blobs/a"):
        with pytest.raises(InvalidRequest):
            permitted_object(chosen, f"s3://bucket/{key}")


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("S3://Bucket/a/", "s3://Bucket/a"),
        ("s3://b//a", "s3://b//a"),
        ("FILE:////srv//pictures/", "file:///srv/pictures"),
        ("file:///", "file:///"),
        ("HTTPS://Shop.example/A/", "https://Shop.example/A/"),
    ],
)
def test_one_place_is_kept_in_one_spelling(location: str, kept: str) -> None:
    assert canonical(location) == kept
    assert canonical(kept) == kept
