"""`image-search collections`: the client's commands for collections."""

import json
import sys

import click

from api.cli import _client_command, _console, _table
from api.client import Client


@click.group()
def collections() -> None:
    """Collections: named sets of pictures, each bound to the model that writes it."""


@collections.command("list")
@_client_command
def list_(client: Client, *, as_json: bool) -> None:
    """List the collections with their numbers of pictures and their models."""
    found = client.collections()
    if as_json:
        click.echo(json.dumps({"collections": found}, ensure_ascii=False))
        return
    table = _table("name", "pictures", "model", "created")
    for one in found:
        table.add_row(one["name"], f"{one['count']:,}", one["model"], one["created_at"])
    _console().print(table if found else "There are no collections.")


@collections.command()
@click.argument("name")
@_client_command
def create(client: Client, *, name: str, as_json: bool) -> None:
    """Create an empty collection. Ingesting into a new name does the same."""
    made = client.create_collection(name)
    click.echo(json.dumps(made, ensure_ascii=False) if as_json else f"{made['name']}: {made['model']}")


@collections.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask; nobody is asked where there is no terminal.")
@_client_command
def delete(client: Client, *, name: str, yes: bool, as_json: bool) -> None:
    """Delete a collection with all its pictures."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {name} with all its pictures?", abort=True)
    client.delete_collection(name)
    click.echo(json.dumps({"deleted": name}) if as_json else f"{name} is deleted.")


client_commands: list[click.Command] = [collections]
