"""S3 by fsspec: how a client of it is set up, and the buckets of others, which are only read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.asyn import sync

from shared.storage.store_errors import reason

# Of a client of S3, which need not ask how long a file is before it reads it. By default a store that hangs
# is given up after half an hour: five times five tries of fsspec's, each of which is five of botocore's.
_OPTIONS: dict[str, Any] = {
    "max_concurrency": 1,
    "default_block_size": 16 * 2**20,
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,  # in which a block has been sent too
        "retries": {"mode": "standard", "total_max_attempts": 3},
        "max_pool_connections": 64,  # a fetch process has FETCH_CONCURRENCY threads, the API more
    },
}
_CAUSES = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": "it denies access (AccessDenied): check the credentials, and what they allow",
    "InvalidAccessKeyId": "it does not know the access key (InvalidAccessKeyId): check the credentials",
    "SignatureDoesNotMatch": "it refuses the signature (SignatureDoesNotMatch): check the secret key",
    "ExpiredToken": "the credentials have expired (ExpiredToken)",
    "InvalidBucketName": "that is no name of a bucket",
    "PermanentRedirect": "it is in another region: set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "it is in another region: set AWS_DEFAULT_REGION",
    "InvalidObjectState": "the object is archived and would have to be restored first (InvalidObjectState)",
}
_GONE = frozenset({"NoSuchKey", "404"})
_EMPTY = frozenset({"InvalidRange", "416"})  # of an object of no bytes there is no first one
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_PASSING = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "503"})


def s3_options() -> dict[str, Any]:
    """Return the options of a client, but for what fsspec's own configuration says of it."""
    told = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return _OPTIONS | {"config_kwargs": {**_OPTIONS["config_kwargs"], **told}}


class S3Failed(Exception):
    """A bucket that does not do what it was asked; `detail` says why, without keys or addresses.

    `denied` where it answered and refuses, so that trying again would bring the same.
    """

    def __init__(self, detail: str, *, denied: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.denied = denied


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object as a bucket lists it; `modified_at` is in epoch seconds."""

    key: str
    size: int
    etag: str
    modified_at: float


class Bucket:
    """A bucket that is read, with the credentials that fsspec and botocore find by their usual ways.

    Methods raise S3Failed.
    """

    def __init__(self, name: str) -> None:
        try:
            self._fs = fsspec.filesystem("s3", use_listings_cache=False, **s3_options())
        except (ImportError, ValueError, OSError):
            raise S3Failed("this needs pip install '.[s3]'", denied=True) from None
        self._fs.retries = 1  # botocore's are enough
        self._name = name

    def pages(self, prefix: str) -> Iterator[list[S3Object]]:
        """Yield the objects whose keys begin with `prefix`, in the keys' order, up to 1,000 at once."""
        more: dict[str, str] = {}
        while True:
            answer = self._ask("list_objects_v2", Prefix=prefix, **more)
            yield [_listed(one) for one in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def read(self, key: str, most_bytes: int) -> bytes:
        """Return the first `most_bytes` of an object, or all. Raises KeyError where there is none."""
        try:
            answer = self._ask("get_object", Key=key, Range=f"bytes=0-{most_bytes - 1}")
        except S3Failed as failure:
            if failure.__cause__ is not None and _code(failure.__cause__) in _EMPTY:
                return b""
            if failure.__cause__ is not None and _code(failure.__cause__) in _GONE:
                raise KeyError(key) from None
            raise
        try:
            content: bytes = sync(self._fs.loop, _content, answer["Body"], most_bytes)
        except Exception as error:
            raise _failure(error) from error
        return content

    def _ask(self, operation: str, **arguments: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._fs.call_s3(operation, Bucket=self._name, **arguments)
        except Exception as error:  # botocore's and aiohttp's, which have no base of their own
            raise _failure(error) from error
        return answer


async def _content(body: Any, most_bytes: int) -> bytes:
    found = bytearray()
    try:
        while len(found) < most_bytes and (part := await body.read(most_bytes - len(found))):
            found += part
    finally:
        body.close()
    return bytes(found)


def _listed(one: dict[str, Any]) -> S3Object:
    return S3Object(one["Key"], one["Size"], one.get("ETag", "").strip('"'), one["LastModified"].timestamp())


def _code(error: BaseException) -> str:
    """Return what the store calls an error; "" where the error is none of its own."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _failure(error: Exception) -> S3Failed:
    if type(error).__name__ == "ParamValidationError":
        return S3Failed(_CAUSES["InvalidBucketName"], denied=True)
    if not (code := _code(error)):
        return S3Failed(reason(error), denied="Credentials" in type(error).__name__)
    cause = _CAUSES.get(code) or (f"it answers {code}" if _CODE.fullmatch(code) else "it fails")
    return S3Failed(cause, denied=code not in _PASSING)
