"""`image-search` whose fetch workers read pictures with `crashing_decode`, which some do not survive."""

from dataclasses import replace

from deploy import cli, embedded
from deploy.supervisor import Child
from shared.models import Stage
from tests.unit.crashing import crashing_decode
from worker.stages import fetch

_role_children = embedded.role_children


def _poisoned(host: str, port: int, fetch_workers: int, encode_workers: int) -> list[Child]:
    return [
        replace(child, argv=[__spec__.name if word == "deploy.cli" else word for word in child.argv])
        if child.name == Stage.FETCH
        else child
        for child in _role_children(host, port, fetch_workers, encode_workers)
    ]


if __name__ == "__main__":
    embedded.role_children = _poisoned
    fetch.decode = crashing_decode
    cli.main()
