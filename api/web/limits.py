"""The numbers and rules that the page knows and the server decides; the shell carries them to its scripts."""

from api.jobs.requests import JobsQuery
from api.search.requests import MAX_OFFSET, MAX_PICTURES
from image_search.models.error_codes import CAUSES
from image_search.models.image_files import IMAGE_HEAD, IMAGE_SUFFIXES
from image_search.models.jobs import MAX_ERRORS, MAX_NOTES, MORE_NOTES, MORE_NOTES_DETAIL
from image_search.models.search import STRENGTHS
from shared.config import Settings
from shared.imaging.decode import RENDITION_SIDE
from shared.index.near_duplicates import COSINE, HAMMING
from shared.ledger.processes import WORKER_SEEN_SECONDS
from shared.models import (
    COLLECTION_NAME,
    COLORS,
    DEFAULT_COLLECTION,
    MAX_GROUP_JOBS,
    MAX_NAME,
    RANGES,
    JsonObject,
)
from shared.validation import METADATA_NAME

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz")
LIST_SUFFIXES = (
    ".txt", ".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet",
    ".xlsx", ".xls", ".ods",  # the server says what to make of these
)  # fmt: skip


def limits(settings: Settings) -> JsonObject:
    """Make the JSON object that `lib/server.js` reads."""
    return {
        "default_collection": DEFAULT_COLLECTION,
        "collection_name": {
            "pattern": COLLECTION_NAME.pattern,
            "rule": "1 to 63 letters, digits, . _ or -; the first and last a letter or digit",
        },
        "metadata_name": {
            "pattern": METADATA_NAME.pattern,
            "rule": "A letter, then up to 62 letters, digits or _",
        },
        "image_suffixes": IMAGE_SUFFIXES,
        "image_head": IMAGE_HEAD,
        "archive_suffixes": ARCHIVE_SUFFIXES,
        "list_suffixes": LIST_SUFFIXES,
        "upload_bytes": settings.max_upload_bytes,
        "query_images": MAX_PICTURES,
        "search_offset": MAX_OFFSET,
        "good_confidence": STRENGTHS["likely"],
        "jobs_listed": JobsQuery.model_json_schema()["properties"]["limit"]["maximum"],
        "job_errors": MAX_ERRORS,
        "job_notes": {"most": MAX_NOTES, "code": MORE_NOTES, "detail": MORE_NOTES_DETAIL},
        "group_jobs": MAX_GROUP_JOBS,
        "name_chars": MAX_NAME,
        "error_codes": {
            code: {"cause": one.cause, "next_step": one.next_step} for code, one in CAUSES.items()
        },
        "worker_seen_s": round(WORKER_SEEN_SECONDS),
        "near_duplicates": {"cosine": COSINE, "hash_bits": HAMMING},
        "rendition_side": RENDITION_SIDE,
        "colors": COLORS,
        "latitude": RANGES["lat"],
        "longitude": RANGES["lon"],
    }
