"""The `image-search` command: one command per role here, the client's commands from image_search/cli/."""
# ruff: noqa: PLC0415 - every command imports its own, so that `--help` takes a fraction of a second

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from image_search.cli.errors import Commands
from image_search.errors import ClientError, NotInstalled
from shared.errors import ImageSearchError
from shared.models import DEFAULT_COLLECTION, Stage
from shared.version import VERSION

if TYPE_CHECKING:
    from shared.storage.blobs import Blobs

LOOPBACK = "127.0.0.1"
CLIENT_MODULES = tuple(
    f"image_search.cli.{name}" for name in ("jobs", "search", "images", "collections", "sources")
)


class Main(Commands):
    """The group of all commands, which loads the client's when asked for."""

    own_errors = (ClientError, ImageSearchError)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._add_client_commands()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            self._add_client_commands()
            found = super().get_command(ctx, cmd_name)
        return found

    def _add_client_commands(self) -> None:
        for module in CLIENT_MODULES:
            for command in importlib.import_module(module).client_commands:
                self.add_command(command)

    @contextmanager
    def told(self, as_json: bool) -> Iterator[None]:
        with super().told(as_json):
            try:
                yield
            except ModuleNotFoundError as error:
                if error.name is None or _is_ours(error.name):
                    raise
                ctx = click.get_current_context(silent=True)
                command = ctx.invoked_subcommand if ctx else None
                raise NotInstalled(f"image-search {command or 'this command'}") from None


def _is_ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in ("api", "deploy", "image_search", "shared", "worker")


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="image-search")
def main() -> None:
    """Search pictures with words and pictures; ingest them in bulk."""
    # In a folder that targets share each would show the others' counts: they make their own.
    for name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(name, None)


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of `image-search up`; ~/.local/share/image-search by default.",
)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@main.command()
@data_dir_option
@click.option("--host", default=LOOPBACK, show_default=True, help="Any but loopback needs an API key.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free.")
@click.option("--fetch-workers", type=click.IntRange(1, 256), help="Fetch processes.  [default: by CPUs]")
@click.option("--encode-workers", type=click.IntRange(1, 64), default=1, show_default=True)
def up(data_dir: Path | None, host: str, port: int, fetch_workers: int | None, encode_workers: int) -> None:
    """Run everything on this machine.

    That is Redis, Chroma, the workers and the API. It is ready when GET /readyz answers 200. Ctrl-C stops
    all of it and loses nothing.
    """
    from deploy import embedded
    from deploy.data_folder import data_folder
    from shared.config import load_settings

    folder = data_folder(data_dir)
    fetch = fetch_workers or max(1, min(4, _cpus() - 1))
    embedded.up(
        load_settings(), folder, host=host, port=port, fetch_workers=fetch, encode_workers=encode_workers
    )


@main.command()
@click.option("--host", default=LOOPBACK, show_default=True, help="Any but loopback needs an API key.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
# Fewer than four, and slow requests could hold all of them (api/http/concurrency.py).
@click.option("--threads", default=32, show_default=True, type=click.IntRange(4, 1024), help="Per process.")
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="On a CPU they share the model's memory.",
)
def api(host: str, port: int, threads: int, processes: int) -> None:
    """Serve the HTTP API and the web page."""
    from deploy.server import serve
    from shared.config import load_settings

    serve(load_settings(), host, port, threads, processes)


def _queues(_ctx: click.Context, _option: click.Parameter, value: str) -> list[str]:
    queues = list(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = [name for name in queues if name not in tuple(Stage)]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(Stage)}")
    return queues


@main.command()
@click.option("--queues", required=True, callback=_queues, help="Comma-separated: fetch, encode, index.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
def worker(queues: list[str], concurrency: int) -> None:
    """Work on the queues."""
    from deploy.metrics_folder import shared_metrics_folder
    from shared.config import load_settings

    settings = load_settings()
    with shared_metrics_folder() if settings.metrics_port else nullcontext():
        from worker.app import run_worker

        run_worker(settings, queues, concurrency)


@main.command()
def sweep() -> None:
    """Requeue what was abandoned; delete what has expired."""
    from shared.config import load_settings
    from worker.recovery.sweep import run_sweep

    run_sweep(load_settings())


@main.command()
@data_dir_option
@click.option("--this-worker", is_flag=True, help="Only say whether this host's worker is alive.")
@json_option
def doctor(data_dir: Path | None, this_worker: bool, as_json: bool) -> None:
    """Say what is reachable and what to fix. Also which model and device are in use."""
    try:
        from deploy.doctor import examine, examine_this_worker
    except ModuleNotFoundError as error:
        if this_worker or data_dir or error.name is None or _is_ours(error.name):
            raise  # about this machine it can say nothing; about the server that the client asks it can
        from deploy.findings import examine_server

        healthy = examine_server(as_json)
    else:
        healthy = examine_this_worker(as_json) if this_worker else examine(data_dir, as_json)
    if not healthy:
        raise click.exceptions.Exit(1)


@main.command()
@data_dir_option
@click.option("--collection", "-c", default=DEFAULT_COLLECTION, show_default=True)
@click.option(
    "--sample",
    type=click.IntRange(min=0),
    metavar="N",
    help="Search for only N pictures, evenly chosen, rather than for every one.",
)
@click.option("--repair", is_flag=True, help="Mark what no search finds, so that searches do.")
@json_option
def verify(data_dir: Path | None, collection: str, sample: int | None, repair: bool, as_json: bool) -> None:
    """Compare a collection with its log; search for its pictures.

    Each is searched for by its own vector: of very many nearly equal pictures, Chroma's graph loses some,
    which count as unreachable. The exit status is 0 if all is well, 3 if not. Pictures of jobs that are
    running may count as missing.
    """
    from deploy.maintenance import verify

    if not verify(data_dir, collection, as_json, sample=sample, repair=repair):
        raise click.exceptions.Exit(3)


@main.command()
@data_dir_option
@click.option("--collection", "-c", default=DEFAULT_COLLECTION, show_default=True)
@json_option
def rebuild(data_dir: Path | None, collection: str, as_json: bool) -> None:
    """Make a collection in Chroma anew from its vector log.

    Nothing is encoded. Searches go on, and then find in the new one; jobs wait until it is done.
    """
    from deploy.maintenance import rebuild

    rebuild(data_dir, collection, as_json)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script for the shell's completion.

    It completes commands, options, collections and jobs.

    \b
    bash: eval "$(image-search completion bash)"           in ~/.bashrc
    zsh:  eval "$(image-search completion zsh)"            in ~/.zshrc, after compinit
    fish: image-search completion fish > ~/.config/fish/completions/image-search.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    click.echo(kind(main, {}, "image-search", "_IMAGE_SEARCH_COMPLETE").source())


@main.group()
def keys() -> None:
    """Make, list and revoke API keys. Without any, the server serves on a loopback address only."""


def _scopes(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> list[str]:
    return [scope.strip() for value in values for scope in value.split(",")]


@keys.command("create")
@data_dir_option
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    callback=_scopes,
    help="search, ingest, metrics, admin.",
)
@click.option("--name", default="", help="To recognise it in the list.")
@json_option
def keys_create(data_dir: Path | None, scopes: list[str], name: str, as_json: bool) -> None:
    """Make a key. It is shown this once."""
    from shared.api_keys import create_key

    key = create_key(_key_store(data_dir), name, scopes)
    click.echo(json.dumps({"key": key, "name": name, "scopes": scopes}) if as_json else key)


@keys.command("list")
@data_dir_option
@json_option
def keys_list(data_dir: Path | None, as_json: bool) -> None:
    """List the keys: id, scopes, name."""
    from image_search.cli.common import console_for, day_and_time, table_of
    from shared.api_keys import list_keys
    from shared.rfc3339 import rfc3339

    found = list_keys(_key_store(data_dir))
    if as_json:
        shown = [
            {"id": key.id, "name": key.name, "scopes": key.scopes, "created_at": rfc3339(key.created_at)}
            for key in found
        ]
        click.echo(json.dumps({"keys": shown}, ensure_ascii=False))
        return
    table = table_of("id", "scopes", "name", "created (UTC)")
    for key in found:
        table.add_row(key.id, ",".join(key.scopes), key.name, day_and_time(rfc3339(key.created_at)))
    console_for().print(table if found else "There are no keys.")


@keys.command("revoke")
@data_dir_option
@click.argument("key_id")
@json_option
def keys_revoke(data_dir: Path | None, key_id: str, as_json: bool) -> None:
    """Revoke a key by its id."""
    from shared.api_keys import revoke_key

    revoke_key(_key_store(data_dir), key_id)
    words = f"revoked {key_id}; servers forget it within seconds"
    click.echo(json.dumps({"revoked": key_id}) if as_json else words)


def _key_store(data_dir: Path | None) -> Blobs:
    """Return the blob store that holds the keys: the one that is set, else that of `up`'s data folder."""
    from deploy.data_folder import data_folder
    from shared.config import load_settings
    from shared.storage.blobs import Blobs

    settings = load_settings()
    own = data_dir is not None or "blob_url" not in settings.model_fields_set
    return Blobs(data_folder(data_dir).blob_url if own else settings.blob_url)


if __name__ == "__main__":
    main(prog_name="image-search")
