"""The format of the ledger, and the upgrade of one that an earlier version wrote."""

from typing import Any

from shared.formats import FIELD, check_format
from shared.ledger import scripts
from shared.ledger.scripts import PREFIX
from shared.models import JobKind, Stage

# 1: scripts knew by its kind which job has a final stage; 2: all callbacks stood in one line, and jobs
# counted for nobody; 3: items had six states
FORMAT = 4


def bring_up_to_date(client: Any) -> None:
    """Convert what an earlier version left in Redis, once. Raises NewerFormat where a later one wrote it."""
    found = client.get(PREFIX + FIELD)
    check_format(found, FORMAT, "The job ledger in Redis")
    if found == str(FORMAT):
        return
    if found in (None, "1"):
        for job_id in client.zrange(f"{PREFIX}jobs", 0, -1):
            job = f"{PREFIX}job:{job_id}"
            if client.hget(job, "kind") == JobKind.REINDEX:
                client.hset(job, mapping={"final_stage": Stage.ENCODE, "incomplete": "1"})
    client.register_script(scripts.source("schedule_callbacks"))()
    client.set(PREFIX + FIELD, FORMAT)
