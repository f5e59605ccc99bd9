"""Reading one object that a listing named: of a bucket, or of a folder of the server's."""

import errno
import os
import stat
from http import HTTPStatus
from pathlib import Path

from shared.errors import InvalidRequest, ItemError
from shared.services import Services
from shared.sources.permission import permitted_object, permitted_path
from shared.storage.s3 import Bucket, S3Failed
from worker.listings.paths import open_without_links, path_of

_READ = os.O_RDONLY | os.O_NONBLOCK  # a pipe is not waited for


def read_object(services: Services, url: str) -> bytes:
    """Return the content of an entry's `s3://` or `file://` URL; whether it may be read is checked again.

    Raises ItemError: blocked_address, http_status (404 for what is gone), too_large, not_an_image for what
    is empty or no file, connect_error.
    """
    most = services.settings.max_image_bytes
    try:
        if url.startswith("s3://"):
            content = _of_bucket(*permitted_object(services.settings, url), most + 1)
        else:
            content = _of_folder(permitted_path(services.settings, f"file://{path_of(url)}"), most + 1)
    except InvalidRequest as error:
        raise ItemError("blocked_address", error.detail) from None
    if len(content) > most:
        raise ItemError.too_large(most)
    if not content:
        raise ItemError("not_an_image", "the file is empty")
    return content


def _of_bucket(bucket: str, key: str, most_bytes: int) -> bytes:
    try:
        return Bucket(bucket).read(key, most_bytes)
    except KeyError:
        raise _gone() from None
    except S3Failed as error:
        raise ItemError("connect_error", f"the bucket {bucket}: {error.detail}", final=error.denied) from None


def _of_folder(path: Path, most_bytes: int) -> bytes:
    """Return what a path without links has. Raises ItemError."""
    try:
        with os.fdopen(open_without_links(path, _READ), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ItemError("not_an_image", "it is no regular file")
            return file.read(most_bytes)
    except FileNotFoundError:
        raise _gone() from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ItemError("blocked_address", "a part of the path has become a link, or no folder") from None
        why = f"the file cannot be read: {os.strerror(error.errno or 0)}"
        raise ItemError("connect_error", why, final=isinstance(error, PermissionError)) from None


def _gone() -> ItemError:
    status = HTTPStatus.NOT_FOUND
    return ItemError("http_status", f"{status} {status.phrase}", http_status=status)
