"""deploy/image-search.service: it starts what the tests' stacks are, where docs/deployment.md puts it."""

import configparser
import shlex

from deploy.supervisor import STOP_SECONDS
from tests.stack import ROOT

UNIT = ROOT / "deploy/image-search.service"


def test_it_starts_what_the_tests_start_where_the_documented_commands_put_it() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    home = f"/var/lib/{service['StateDirectory']}"
    assert arguments == ["up", "--data-dir", f"{home}/data"]
    assert int(service["TimeoutStopSec"]) > STOP_SECONDS
    commands = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    for shown in (
        f'sudo git clone "$REPOSITORY" {program.removesuffix("/.venv/bin/image-search")}',
        f"useradd --system --create-home --home-dir {home} {service['User']}\n",
        f"--data-dir {home}/data\n",
        f"/opt/image-search/{UNIT.relative_to(ROOT)}\n",
    ):
        assert shown in commands
