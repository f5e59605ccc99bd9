"""`make bench`: every benchmark, one table, exit 1 when a goal was missed."""

import tempfile
from pathlib import Path

import click

from benchmarks import api_costs, filters, fuzz, ingest, load, memory, parity
from benchmarks.photos import served, write_photos
from benchmarks.results import show, write_json
from deploy.checkpoint import make_random_checkpoint

PARITY_SAMPLE = 100
LONG = ("load", "memory", "fuzz")


@click.command(context_settings={"show_default": True})
@click.option("--photos", default=300, help="Photo-sized JPEGs (2048 x 1536) to ingest.")
@click.option("--pictures", default=filters.PICTURES, help="Pictures in the index for filtered searches.")
@click.option("--rounds", default=1, help="Ingest runs of each side; the medians count.")
@click.option(
    "--model", type=click.Path(path_type=Path), help="A trained checkpoint to measure parity on too."
)
@click.option("--seconds", default=60.0, help="How long `load` measures under load.")
@click.option("--mutations", default=20_000, help="Damaged files that `fuzz` reads.")
@click.option("--seed", default=0, help="The first of them: other seeds, other damage.")
@click.option("--items", default=200_000, help="Pictures that `memory` ingests, about 200 a second.")
@click.option("--only", type=click.Choice(["ingest", "parity", "api", "filters", *LONG]), help="One part.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="A file for the results, too.")
def main(
    *,
    photos: int,
    pictures: int,
    rounds: int,
    model: Path | None,
    seconds: float,
    items: int,
    mutations: int,
    seed: int,
    only: str | None,
    report: Path | None,
) -> None:
    """Measure ingest, parity, API costs and filters with a randomly initialised ViT-B/32.

    `load`, `memory` and `fuzz` are long and only run when they are asked for: the first two use the starter
    model, `fuzz` reads damaged files of every format.
    """
    results = fuzz.measure(mutations, seed) if only == "fuzz" else []
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        work = Path(folder)
        checkpoint = work / "vit-b-32"
        if only not in LONG:
            make_random_checkpoint(checkpoint)
        paths = [] if only in ("api", "filters", *LONG) else write_photos(work / "photos", photos)
        if only in (None, "parity"):
            results += parity.measure(checkpoint, paths[:PARITY_SAMPLE], centred=True)
            if model is not None:
                results += parity.measure(model, paths[:PARITY_SAMPLE], centred=False)
        if only in (None, "api"):
            results += api_costs.measure(work / "api")
        if only in (None, "filters"):
            results += filters.measure(checkpoint, work / "filters", pictures)
        if only in (None, "ingest"):
            with served(work / "photos") as address:
                urls = [f"{address}/{path.name}" for path in paths]
                results += ingest.compare(checkpoint, urls, work, rounds)
        if only == "load":
            results += load.measure(work / "load", seconds)
        if only == "memory":
            results += memory.measure(work / "memory", items)
    show(results)
    if report is not None:
        write_json(results, report)
    raise SystemExit(0 if all(result.reached for result in results) else 1)


if __name__ == "__main__":
    main()
