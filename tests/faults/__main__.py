"""`make faults`: many rounds, each a job with faults at random moments, and a table of what came of them."""

import json
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.faults.injections import INJECTIONS
from tests.faults.rig import Outcome, Rig
from tests.faults.rounds import run_round

MAX_PER_ROUND = 3
COLUMNS = ("seconds to the end", "lost", "doubled", "wrong", "extra")


@click.command()
@click.option("--injections", type=int, help="How many in all  [default: each alone, then some together]")
@click.option("--seed", default=0, show_default=True, help="Chooses the faults' order and moments.")
@click.option("--only", default="", help="Only faults whose names have this in them: sync, say.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the rows there too.")
def main(injections: int | None, seed: int, only: str, json_path: Path | None) -> None:
    """Breaks a running stack. Exits with 1 when anything was lost, doubled, wrong or too much."""
    names = [name for name in INJECTIONS if only in name]
    if not names:
        raise click.UsageError(f"No fault has {only!r} in its name.")
    rows = []
    rounds = plan(names, injections or len(names) * 7 // 6, seed)
    with Rig() as rig:
        for number, faults in enumerate(rounds):
            started = time.monotonic()
            outcome = run_round(rig, f"round-{number}", faults, seed * 1000 + number)
            click.echo(f"{number}: {_line(faults, outcome)} ({time.monotonic() - started:.0f} s in all)")
            rows.append((faults, outcome))
    _show(rows)
    if json_path is not None:
        json_path.write_text(json.dumps([{"faults": f, "sound": o.sound} | asdict(o) for f, o in rows]))
    sys.exit(0 if all(outcome.sound for _, outcome in rows) else 1)


def plan(names: list[str], injections: int, seed: int) -> list[list[str]]:
    """Every fault alone first, then rounds of two or three; each fault about as often as the others."""
    chance = random.Random(seed)
    rounds = [[name] for name in names][:injections]
    left = injections - len(rounds)
    deck: list[str] = []
    while left > 0:
        many = min(left, chance.randint(2, MAX_PER_ROUND), len(names))
        while len(deck) < many:
            deck += chance.sample(names, len(names))
        rounds.append([deck.pop() for _ in range(many)])
        left -= many
    return rounds


def _line(faults: list[str], outcome: Outcome) -> str:
    numbers = (f"{outcome.seconds:.1f}", outcome.lost, outcome.doubled, outcome.wrong, outcome.extra)
    said = ", ".join(f"{name} {number}" for name, number in zip(COLUMNS, numbers, strict=True))
    return f"{' + '.join(faults)}: {said}{'' if outcome.sound else f' NOT SOUND {outcome.job}'}"


def _show(rows: list[tuple[list[str], Outcome]]) -> None:
    table = Table("fault", "jobs", *COLUMNS)
    for name in INJECTIONS:
        mine = [outcome for faults, outcome in rows if name in faults]
        if mine:
            sums = (sum(getattr(o, field) for o in mine) for field in ("lost", "doubled", "wrong", "extra"))
            slowest = max(outcome.seconds for outcome in mine)
            table.add_row(name, str(len(mine)), f"at most {slowest:.1f}", *map(str, sums))
    Console().print(table)
    injected = sum(len(faults) for faults, _ in rows)
    unsound = sum(not outcome.sound for _, outcome in rows)
    click.echo(f"{injected} faults in {len(rows)} jobs; not sound: {unsound}")


if __name__ == "__main__":
    main()
