"""The stored API keys: making, listing, revoking and recognising them.

A key reads `isk_<id>_<secret>`; its secret is 256 random bits, so one SHA-256 of the whole key is as good as
any slow hash. Stored is `keys/<id>.json` in the blob store, which holds the hash and never the key.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Literal

import structlog

from shared.download.addresses import is_loopback
from shared.errors import ConfigError, FieldError, InvalidRequest, NewerFormat, NotFound
from shared.formats import FIELD, check_format
from shared.storage.blobs import API_KEYS, Blobs, api_key_key

Scope = Literal["search", "ingest", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = ("search", "ingest", "metrics", "admin")
FORMAT = 1  # of a stored key, which says so from 2 on: versions from before know no further field
_KEY = re.compile(r"isk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key: `hash` is the whole key's SHA-256, in hex; `created_at` is in epoch seconds."""

    id: str
    name: str
    scopes: list[str]
    hash: str
    created_at: float

    def allows(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


def create_key(blobs: Blobs, name: str, scopes: Iterable[str]) -> str:
    """Store a new key and return it, this once. Raises InvalidRequest for an unknown scope or none."""
    chosen = sorted(set(scopes))
    if unknown := [scope for scope in chosen if scope not in SCOPES]:
        fault: FieldError = {"pointer": "/scopes", "message": f"{unknown[0]} is not a scope"}
        raise InvalidRequest(f"Unknown scope {unknown[0]}; scopes are {', '.join(SCOPES)}.", [fault])
    if not chosen:
        raise InvalidRequest(f"A key needs a scope; scopes are {', '.join(SCOPES)}.")
    key_id = secrets.token_hex(6)
    plain = f"isk_{key_id}_{secrets.token_urlsafe(32)}"
    key = ApiKey(key_id, name, chosen, _digest(plain), time.time())
    blobs.put(api_key_key(key_id), json.dumps(asdict(key)).encode())
    return plain


def list_keys(blobs: Blobs) -> list[ApiKey]:
    """Return all keys, oldest first."""
    return sorted(read_keys(blobs).values(), key=lambda key: key.created_at)


def revoke_key(blobs: Blobs, key_id: str) -> None:
    """Delete a key, which servers forget within 10 s. Raises NotFound."""
    if not re.fullmatch(r"[0-9a-f]{12}", key_id) or not blobs.exists(api_key_key(key_id)):
        raise NotFound(f"There is no key {key_id}.")
    blobs.delete(api_key_key(key_id))


def read_keys(blobs: Blobs) -> dict[str, ApiKey]:
    """Read all keys, by id."""
    keys = {}
    for blob in blobs.list(API_KEYS):
        try:
            record = json.loads(blobs.get(blob))
            check_format(record.pop(FIELD, None), FORMAT, "The API key")
            key = ApiKey(**record)
        except KeyError:
            continue  # revoked since it was listed
        except (TypeError, ValueError, AttributeError, NewerFormat) as error:
            log.error("this API key cannot be read and opens nothing", blob=blob, reason=str(error))  # noqa: TRY400
            # It still counts: were it the only one, leaving it out would let everybody on this machine in.
            key = ApiKey(PurePosixPath(blob).stem, "unreadable", [], "", 0.0)
        keys[key.id] = key
    return keys


def find_key(keys: Mapping[str, ApiKey], plain: str) -> ApiKey | None:
    """Return the stored key that `plain`, what a caller sent, is; None for any other text."""
    match = _KEY.fullmatch(plain)
    key = keys.get(match[1]) if match else None
    return key if key and hmac.compare_digest(key.hash, _digest(plain)) else None


def check_bind(host: str, blobs: Blobs) -> None:
    """Raise ConfigError when other machines can reach `host` although no key exists."""
    if not is_loopback(host) and not list_keys(blobs):
        raise ConfigError(
            f"No API key exists, so {host or 'every address'} will not be served: create a key with "
            "`image-search keys create --scope search,ingest [--name NAME]`, or serve on 127.0.0.1"
        )


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode()).hexdigest()
