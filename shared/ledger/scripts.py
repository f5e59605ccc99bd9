"""Loads the scripts in lua/: every state change of a job is one of them, atomic in Redis.

Keys, all under `is:` (a single Redis, not a Cluster: scripts build their keys from the job's id):

    job:<job>        hash    the job: collection, total, chunk, gen, status, cursor, kind, options,
                             final_stage, finish, incomplete, result, c0..c8 (items per state), by and
                             bytes (the key that made it, the bytes of its items and uploads), plan (awaited,
                             made or failed, of a job that begins without items), source, request_id and
                             traceparent (of the request that made it, or had it retried), …
    states:<job>     string  the state map, one byte per item: the digit of models.ITEM_STATES
    errors:<job>     list    the first failures, JSON
    failures:<job>   hash    code -> failed items, <code>:transient -> those of them that may succeed later
    retrying:<job>   zset    a member per chunk with items that wait to be tried again, by when they are:
                             <chunk>:<items>:<attempt>:<attempts>; the job's `waiting` adds up the items
    group:<group>    zset    the jobs of one upload or command, by creation time
    jobs             zset    every job by creation time
    active:<key id>  set     the jobs of an API key, or of those without one, that have not finished
    changing:<coll>  zset    the jobs of a collection that have not finished, by their version
    kept:<key id>    zset    those that have, by the time at which they did
    held             hash    <key id> -> bytes of all of these, <key id>:active of those not finished
    open             list    jobs with items that were never enqueued, taken in turn
    chunk:<ref>      hash    a chunk at a stage: state (queued, running, delayed), token, deliveries, payload,
                             items (past fetch: those that it carries), reason (why a worker gave it back),
                             released (when first)
    advanced:<claim> string  <ref>:<token> of a claim that was ended, for as long as its worker may ask again
    aside            set     chunks at fetch that are worked on beside others, and take no place in its window
    away             set     chunks that a worker gave back and that left their stage's queue until due
    stages           hash    <stage>:had and :passed, when a worker last had a chunk there, or got one past
    stage:<stage>    zset    chunks at a stage, but for some that are delayed, by the time they came
    due              zset    chunks by the time at which the sweeper must look at them
    reading          zset    jobs whose body is still being read, by the end of the reader's lease
    expiry           zset    finished jobs by the time at which they, or what is left of them, are deleted
    callbacks:<host> zset    finished jobs whose callback that host is to get, by the time of the next try
    calling:<host>   zset    those whose call is under way, by the time at which it is given up for lost
    receivers:<lane> zset    hosts with any of these, by the time of their turn (callbacks.py)
    receiver:<host>  hash    what is known of such a host: failures in a row, open, answered
    sources          zset    sources with a schedule, by when they are due
    syncing          hash    source -> the job that syncs it, until that has ended
    idem:<key>       string  "<digest> <job>" of an Idempotency-Key
    removed:<coll>   hash    image id (or * for the whole collection) -> version of its latest removal,
                             source:<name> -> version of the latest sync that wrote something
    unfinished       hash    a chunk of changes that the writer has logged and not yet made: the name of its
                             segment in the vector log -> its collection
    discarded        zset    <coll>/<image id> by the time at which its files were put aside
    apis             hash    API process -> JSON of its latest heartbeat: the models that it has loaded
    announced        hash    reindex job -> JSON of the model that its collection is about to switch to
    workers          hash    worker id -> JSON of its latest heartbeat
    joining:<job>    string  the lease on comparing its list with that of an earlier job
    writer           string  the index writer's lease
    writer:wanted    string  who waits for that lease for one change, for a moment: the writer then yields it
    host:<host>      hash    a foreign host's token bucket and breaker (hosts.py)
    breakers         zset    hosts whose breaker is open, by the time at which that ends
    format           string  the ledger's (upgrade.py)
    clock            string  the latest version that was given out, in microseconds since the epoch
    totals           hash    since the beginning: items per terminal state, code:<code> -> failed items,
                             seconds of the encoders
"""

from functools import cache
from importlib import resources

PREFIX = "is:"
_FOLDER = resources.files(__package__) / "lua"


@cache
def source(name: str) -> str:
    """Return the text of `lua/<name>.lua` after the functions of prelude.lua, which all scripts share."""
    return _read("prelude") + _read(name)


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
