"""`image-search collections`, and what moves them: export, import, reindex."""

import sys
from pathlib import Path

import click

from image_search import Client
from image_search.cli.common import (
    client_command,
    collection_option,
    complete_collections,
    complete_models,
    console_for,
    counted,
    day_and_time,
    print_json,
    table_of,
    values_text,
)
from image_search.cli.jobs import follow, print_jobs
from image_search.models.collections import DEFAULT_COLLECTION, CollectionList
from image_search.models.system import ModelList, ModelState

_FREQUENT = 5  # values in one row


@click.group()
def collections() -> None:
    """List, create and delete collections. Each is bound to the model that writes it."""


@collections.command("list")
@client_command
def list_(client: Client, *, as_json: bool) -> None:
    """List the collections, their pictures' number and model."""
    found = client.collections()
    if as_json:
        print_json(CollectionList(collections=found))
        return
    table = table_of("name", "pictures", "model", "created (UTC)")
    for one in found:
        table.add_row(one.name, f"{one.count:,}", one.model, day_and_time(one.created_at))
    console_for().print(table if found else "There are no collections.")


@collections.command()
@click.argument("name")
@click.option(
    "--model",
    metavar="M",
    shell_complete=complete_models,
    help="Hugging Face id, a folder below the server's MODELS_FOLDER, or `starter`; needs the scope admin.  "
    "[default: the server's]",
)
@client_command
def create(client: Client, *, name: str, model: str | None, as_json: bool) -> None:
    """Create an empty collection.

    Ingesting into a new name creates one of the default model, too. A model that the server does not have
    yet is downloaded in the background: `image-search models` says how far.
    """
    made = client.create_collection(name, model)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made.name}: {made.model}")


@collections.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask; nobody is asked where there is no terminal.")
@client_command
def delete(client: Client, *, name: str, yes: bool, as_json: bool) -> None:
    """Delete a collection with all its pictures."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {name} with all its pictures?", abort=True)
    client.delete_collection(name)
    if as_json:
        print_json({"deleted": name})
    else:
        click.echo(f"{name} is deleted.")


@collections.command()
@click.argument("name", default=DEFAULT_COLLECTION, shell_complete=complete_collections)
@client_command
def metadata(client: Client, *, name: str, as_json: bool) -> None:
    """List the metadata of NAME's pictures, to filter by.

    Each name, its types, how many pictures have it, and its most frequent values.  [default: images]
    """
    found = client.collection_metadata(name)
    if as_json:
        print_json(found)
        return
    console = console_for()
    table = table_of("name", "type", "pictures", "frequent values")
    for one in [*found.names, *found.fields]:
        values = values_text(one.values[:_FREQUENT])
        more = one.more_values or len(one.values) > _FREQUENT
        table.add_row(one.name, " or ".join(one.types), f"{one.pictures:,}", values + (", …" if more else ""))
    console.print(table if found.pictures or not found.complete else f"{name} is empty.")
    if not found.complete:
        console.print(f"{found.pictures:,} pictures were looked at: what few have may be missing.")
    if found.more_names:
        console.print("There are more names, less frequent.")


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@collection_option(DEFAULT_COLLECTION)
@click.option("--include", multiple=True, type=click.Choice(["thumbnail", "rendition"]), help="Pictures too.")
@client_command
def export_(
    client: Client, *, folder: Path, collection: str, include: tuple[str, ...], as_json: bool
) -> None:
    """Write a collection to DIR/COLLECTION.parquet.

    The exit status is 0 if every picture was written, 3 if some failed, 1 if the job could not be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    console = console_for(as_json)
    job = follow(client, client.export(collection, include).job_id, console)
    if job.counts.get("indexed"):
        path = folder / f"{collection}.parquet"
        client.download_export(job.job_id, path)
        console.print(f"{path}: {counted(job.counts['indexed'], 'picture')}")
    print_jobs(client, [job], console, as_json=as_json, followed=True)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="DIR")
@collection_option(help="Collection to import into.  [default: the file's name]")
@client_command
def import_(client: Client, *, source: Path, collection: str | None, as_json: bool) -> None:
    """Bring in what `export` wrote.

    DIR is a folder, of which every .parquet file is taken, or one file.
    The exit status is 0 if every row was taken, 3 if some failed, 1 if a file was refused.
    """
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise click.UsageError(f"{source} has no .parquet file")
    console = console_for(as_json)
    jobs = [client.import_file(path, collection or path.stem) for path in files]
    jobs = [follow(client, job.job_id, console) for job in jobs]
    print_jobs(client, jobs, console, as_json=as_json, followed=True)


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="M",
    shell_complete=complete_models,
    help="Hugging Face id, `starter`, or a folder on every machine of the server.",
)
@collection_option(DEFAULT_COLLECTION)
@click.option("--allow-missing", is_flag=True, help="Leave out pictures that cannot be encoded again.")
@client_command
def reindex(client: Client, *, model: str, collection: str, allow_missing: bool, as_json: bool) -> None:
    """Encode a collection again with another model.

    Searches go on, and are switched to the new vectors at the end, once every server has loaded the new
    model; nothing is restarted. The way back is the same.
    The exit status is 0 after the switch, 3 if some pictures failed or there was none.
    """
    console = console_for(as_json)
    job = follow(client, client.reindex(collection, model, allow_missing=allow_missing).job_id, console)
    if job.result:
        console.print(job.result["detail"])
    print_jobs(client, [job], console, as_json=as_json, followed=True)


@click.command()
@client_command
def models(client: Client, *, as_json: bool) -> None:
    """List the models of collections, and what is loaded."""
    found = client.models()
    if as_json:
        print_json(ModelList(models=found))
        return
    table = table_of("name", "kind", "vector", "languages", "state")
    for one in found:
        table.add_row(one.name, one.kind, f"{one.dimension or ''}", one.languages, _state(one))
    console = console_for()
    console.print(table)
    for one in found:
        if one.detail:
            console.print(f"{one.name}: {one.detail}")


def _state(model: ModelState) -> str:
    return model.state if model.progress is None else f"{model.state}, {model.progress:.0%}"


client_commands: list[click.Command] = [collections, models, export_, import_, reindex]
