"""`image-search` for stacks that tests break: what a killed worker held is free, and a model that is away is
looked for again, after seconds instead of half a minute.
"""

import sys
from dataclasses import replace

from deploy import cli
from shared.ledger import leases, ledger, writer
from worker.recovery import lease

LEASE_SECONDS = 10.0
SECONDS = {
    "CHUNK_LEASE_SECONDS": LEASE_SECONDS,
    "JOIN_LEASE_SECONDS": LEASE_SECONDS,
    "WRITER_LEASE_SECONDS": LEASE_SECONDS,
    "RESEND_SECONDS": LEASE_SECONDS,
    "ERROR_DELAY_SECONDS": 2.0,
}
DEFINED_IN = (leases, ledger, writer, lease)


def main(module: str) -> None:
    """Run `image-search` with these waits; `up` runs its roles as `module`."""
    assert SECONDS.keys() <= {name for defining in DEFINED_IN for name in vars(defining)}
    for known in [*sys.modules.values()]:  # what is imported later takes the names from DEFINED_IN
        for name in SECONDS.keys() & vars(known).keys():
            setattr(known, name, SECONDS[name])
    if "up" in sys.argv:
        _run_roles_as(module)
    cli.main()


def _run_roles_as(module: str) -> None:
    from deploy import embedded  # noqa: PLC0415 - which the roles need not import

    role_children = embedded.role_children
    embedded.role_children = lambda *arguments: [
        replace(child, argv=[module if word == "deploy.cli" else word for word in child.argv])
        for child in role_children(*arguments)
    ]


if __name__ == "__main__":
    main(__spec__.name)
