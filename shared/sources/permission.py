"""Where a source may read: buckets and folders, but none that overlaps with the deployment's own data.

A location is written in one way only. So that nothing depends on how some library reads another spelling,
what is written otherwise is refused, not put right.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from shared.config import PREFIX, Settings
from shared.errors import InvalidRequest
from shared.storage.blobs import root_of
from shared.validation import shown

SCHEMES = ("s3", "http", "https", "file")
MAX_LOCATION = 2_048
FOLDERS = f"{PREFIX}SOURCE_FOLDERS"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_USERINFO = re.compile(r"[^/?#\\]*@")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SLASHES = re.compile(r"/+")


def canonical(location: str) -> str:
    """Return a location as it is kept: the scheme in lower case, no slashes that say nothing."""
    scheme, colon, rest = location.partition(":")
    scheme = scheme.lower()
    if scheme == "file":
        rest = "//" + (_SLASHES.sub("/", rest).rstrip("/") or "/")
    return f"{scheme}{colon}{rest.rstrip('/') if scheme == 's3' else rest}"


def check_location(settings: Settings, location: str) -> None:
    """Check where a source is to read from, but for the address of a web server.

    Raises InvalidRequest, which points to `/from` and shows nothing of the location.
    """
    try:
        _check_spelling(location)
        if location.lower().startswith("s3:"):
            permitted_prefix(settings, location)
        elif location.lower().startswith("file:"):
            permitted_path(settings, location)
    except InvalidRequest as error:
        raise error.at("/from") from None


def permitted_path(settings: Settings, url: str) -> Path:
    """Return where a `file:///` URL, of a folder or of a file, leads once all links are followed.

    What comes after `file://` is the path as it is, not percent-encoded. Raises InvalidRequest unless that is
    in a folder that SOURCE_FOLDERS names and apart from the deployment's own data.
    """
    scheme, _, path = url.partition("://")
    if scheme.lower() != "file" or not path.startswith("/"):
        raise InvalidRequest("A folder is written file:///path, without a host's name.")
    _refuse_dots(path)
    if not settings.source_folders:
        raise InvalidRequest(
            f"No folder of the server's may be read: {FOLDERS} names none. Whoever runs the server sets it."
        )
    try:
        real = _real(path)
        allowed = any(real.is_relative_to(_real(folder)) for folder in settings.source_folders)
    except (OSError, ValueError):  # a loop of links, a name that no file can have
        raise InvalidRequest("The path cannot be followed.") from None
    if not allowed:
        raise InvalidRequest(f"The path does not lead to, or below, a folder that {FOLDERS} names.")
    if any(_overlap(real, own) for own in _own_folders(settings)):
        raise InvalidRequest(
            "This is, holds or lies in the deployment's own data, which no source may read: name another "
            "folder."
        )
    return real


def permitted_prefix(settings: Settings, url: str) -> tuple[str, str]:
    """Return the bucket of an `s3://` URL, and the beginning of its keys: a folder's, with a `/`, or "".

    Raises InvalidRequest where the deployment's own blob store is there, above or below.
    """
    bucket, prefix = _split(url)
    _refuse_dots(prefix)
    prefix = prefix.strip("/") and prefix.rstrip("/") + "/"
    if _is_own(settings, bucket, prefix, also_above=True):
        raise InvalidRequest(
            "This is, holds or lies in the deployment's own store of files, which no source may read: name "
            "another bucket or prefix."
        )
    return bucket, prefix


def permitted_object(settings: Settings, url: str) -> tuple[str, str]:
    """Return bucket and key of an object's `s3://` URL, in which the key stands as it is.

    Raises InvalidRequest for one of the deployment's own.
    """
    bucket, key = _split(url)
    if _is_own(settings, bucket, key, also_above=False):
        raise InvalidRequest("The object is one of the deployment's own, which no source may read.")
    return bucket, key


def _check_spelling(location: str) -> None:
    """Raise InvalidRequest for what is not one of the four kinds of location, plainly written."""
    if len(location) > MAX_LOCATION:
        raise InvalidRequest(f"It has {len(location):,} characters; at most {MAX_LOCATION:,} are allowed.")
    if location != location.strip() or shown(location) != location:
        raise InvalidRequest("It has control characters, or blanks at an end.")
    found = _SCHEME.match(location)
    scheme = found[1].lower() if found else ""
    rest = location[found.end() :] if found else location
    is_web = scheme in ("http", "https")
    if "::" in location and not (is_web and rest.startswith("//")):
        raise InvalidRequest("Chained URLs (`zip::s3://…`) are not read: name the bucket, file or folder.")
    if scheme not in SCHEMES:
        raise InvalidRequest("It must begin with s3://, https://, http:// or file:///.")
    if not rest.startswith("//"):
        raise InvalidRequest(f"After `{scheme}:` comes `//`.")
    if _USERINFO.match(rest[2:]) and scheme != "file":
        kept = "FETCH_HEADERS" if is_web else "AWS_* variables or fsspec's configuration"
        raise InvalidRequest(f"It carries credentials: put them into the workers' {kept}, not into a URL.")
    if is_web:
        return
    if "?" in rest or "#" in rest:
        raise InvalidRequest("A bucket or folder has no `?` and no `#`: name it alone.")
    if _ENCODED.search(rest):
        raise InvalidRequest("Buckets and folders are written as they are, not percent-encoded.")
    if "\\" in rest:
        raise InvalidRequest("Between the parts of a path stands `/`, and no part has a backslash.")


def _refuse_dots(path: str) -> None:
    if {".", ".."} & set(path.split("/")):
        raise InvalidRequest("No part of a path may be `.` or `..`.")


def _real(path: str | Path) -> Path:
    """Return a path with all links followed, whether or not it is there. Raises OSError, ValueError."""
    # POSIX leaves two slashes at the start as they are.
    return Path(os.path.realpath(_SLASHES.sub("/", str(path))))


def _own_folders(settings: Settings) -> Iterator[Path]:
    """Yield the deployment's folders: that of its blob store, and the data folder of `up` around it."""
    root = root_of(settings.blob_url)
    if not root.startswith("/"):
        return
    blobs = _real(root)
    yield blobs
    if _identity(blobs.parent / "run" / "lock"):
        yield blobs.parent


def _overlap(one: Path, other: Path) -> bool:
    """Return whether two folders are the same, or one is in the other, also where it is mounted twice."""
    return _is_in(one, other) or _is_in(other, one)


def _is_in(inner: Path, outer: Path) -> bool:
    if inner.is_relative_to(outer):
        return True
    identity = _identity(outer)
    return identity is not None and any(_identity(folder) == identity for folder in (inner, *inner.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _split(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not _BUCKET.fullmatch(bucket):
        raise InvalidRequest("A bucket is written s3://bucket or s3://bucket/prefix.")
    return bucket, key


def _is_own(settings: Settings, bucket: str, key: str, *, also_above: bool) -> bool:
    """Return whether such keys are of the deployment's blob store; `also_above`: or include it."""
    root = root_of(settings.blob_url)
    if root.startswith("/"):
        return False
    # Some stores that speak S3 take several slashes for one, or keep their objects as files.
    own, asked = (PurePosixPath(_SLASHES.sub("/", one.casefold())) for one in (root, f"{bucket}/{key}"))
    return asked.is_relative_to(own) or (also_above and own.is_relative_to(asked))
