"""Sources and their runs as the API's documents."""

from collections.abc import Sequence

from image_search import models
from shared.rfc3339 import rfc3339
from shared.sources.definition import Run, Source
from shared.urls.redaction import redacted


def source_answer(
    source: Source,
    last_run: Run | None,
    *,
    next_due: float | None,
    running_job: str | None,
    runs: Sequence[Run] | None = None,
) -> models.Source:
    """Describe a source; `next_due` is in seconds since the epoch, `runs` are None where not asked for."""
    return models.Source(
        name=source.name,
        from_=redacted(source.location),
        collection=source.collection,
        every=source.every,
        delete_missing=source.delete_missing,
        max_delete_share=source.max_delete_share,
        refetch=source.refetch,
        callback_url=source.callback_url and redacted(source.callback_url),
        **source.table,
        created_at=rfc3339(source.created_at),
        removing=source.removing,
        next_run_at=None if next_due is None or source.removing else rfc3339(next_due),
        running_job=running_job,
        last_run=last_run and _run_answer(last_run),
        runs=None if runs is None else [_run_answer(run) for run in runs],
    )


def _run_answer(run: Run) -> models.Run:
    return models.Run(
        job_id=run.job_id,
        status=run.status,
        dry_run=run.dry_run,
        started_at=rfc3339(run.started_at),
        finished_at=rfc3339(run.finished_at),
        counts=run.counts,
        withheld=run.withheld,
        detail=run.detail,
    )
