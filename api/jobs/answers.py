"""Jobs and items of the ledger as the API's documents."""

from collections.abc import Iterable
from dataclasses import asdict

from flask import Response, url_for

from image_search import models
from shared.job_document import job_document
from shared.models import Item, ItemResult, ItemState, Job
from shared.tables.table import Table


def job_answer(job: Job) -> models.Job:
    """Describe a job."""
    return models.Job.model_validate(job_document(job))


def accepted(job: Job) -> Response:
    """Return the answer to whoever asked for a job: 202, with its Location."""
    headers = {"Location": url_for("jobs.get_job", job_id=job.job_id)}
    return Response(job_answer(job).model_dump_json(), 202, headers, mimetype="application/json")


def item_answer(index: int, state: ItemState, source: str, result: ItemResult | None) -> models.Item:
    """Describe an item. `result` may be of an earlier generation (before a retry): `state` decides."""
    failed = state is ItemState.FAILED
    ended_well = state not in (ItemState.PENDING, ItemState.FETCHED, ItemState.FAILED, ItemState.CANCELLED)
    return models.Item(
        index=index,
        source=source,
        status=state,
        image_id=result.image_id if result and ended_well else None,
        code=result.code if result and failed else None,
        detail=result.detail if result and failed else None,
        attempts=result.attempts if result else 0,
    )


def preview_answer(table: Table, rows: Iterable[Item]) -> models.TablePreview:
    """Describe a table, with the items that some of its rows become."""
    return models.TablePreview(
        kind=table.kind,
        columns=[models.TableColumn(**asdict(column)) for column in table.columns],
        rows=[
            models.TableRow(url=row.source, key=row.key, metadata=row.metadata, error=row.error)
            for row in rows
        ],
        notes=[models.Note(**asdict(note)) for note in table.notes],
        total=table.total,
        partial=table.partial,
    )
