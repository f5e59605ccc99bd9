"""`python -m training STEP`: fetch, build, train, export; see README.md."""

from pathlib import Path

import click

TABLE_START, TABLE_END = "<!-- make eval: begin -->", "<!-- make eval: end -->"


@click.group()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("data/training"), show_default=True)
@click.pass_context
def main(context: click.Context, folder: Path) -> None:
    """Train the starter model from openly licensed drawings."""
    context.obj = folder


@main.command()
@click.pass_obj
def fetch(folder: Path) -> None:
    """Get the packages with pictures and words (needs npm and apt-get)."""
    from training.sources import Raw

    Raw(folder / "raw").fetch()


@main.command()
@click.pass_obj
def build(folder: Path) -> None:
    """Render and crop the training pictures, collect their names."""
    from training.pictures import build as build_pictures
    from training.sources import Raw

    build_pictures(Raw(folder / "raw"), folder)


@main.command()
@click.option("--pictures", default=3_100_000, show_default=True, help="how many to look at in all")
@click.option(
    "--start-from", type=click.Path(exists=True, path_type=Path), help="exported weights to go on from"
)
@click.option(
    "--seen", default=0, help="how many pictures those weights have seen: the rate goes on from there"
)
@click.pass_obj
def train(folder: Path, pictures: int, start_from: Path | None, seen: int) -> None:
    """Train, or go on from the last checkpoint, or without one from exported weights."""
    from training.train import Trainer

    Trainer(folder, pictures, start_from, seen).run()


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.pass_obj
def export(folder: Path, out: Path) -> None:
    """Write the averaged weights of the last checkpoint as a transformers checkpoint."""
    from training.train import export as export_checkpoint

    export_checkpoint(folder, out)


@main.command("eval")
@click.argument("model", default="starter")
@click.option("--card", type=click.Path(path_type=Path), help="model card whose table to write anew")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or int8")
@click.pass_obj
def evaluate(folder: Path, model: str, card: Path | None, precision: str) -> None:
    """Measure MODEL (`starter`, a folder or a hub id) through the product's encoder and index."""
    from benchmarks.results import show
    from training.evaluation import evaluate as run_evaluation
    from training.evaluation import to_markdown

    results = run_evaluation(model, folder, precision)
    show(results)
    if card:
        before, _, rest = card.read_text().partition(TABLE_START)
        after = rest.partition(TABLE_END)[2]
        card.write_text(f"{before}{TABLE_START}\n{to_markdown(results)}\n{TABLE_END}{after}")


if __name__ == "__main__":
    main()
