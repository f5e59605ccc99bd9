"""The frame of the benchmarks: what is kept of a run, what counts as worse, and the page made of it."""

import importlib
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import figures, models, on_paper, records, report
from benchmarks.plots import draw
from benchmarks.records import Machine, Recording
from benchmarks.results import Curve, NotHere, Result
from tests.checkpoints import tiny_checkpoint

CURVE = Curve("A title", "x", "y", {"a": [(1.0, 2.0), (10.0, 3.0)], "b": [(1.0, 4.0)]}, log="x")
RUN = Recording(
    part="part",
    date="2026-01-01",
    commit="abc",
    options={"photos": 3},
    machine=Machine("a processor", 2, None),
    seconds=5.0,
    results=[Result("ratio", 1.0, goal=0.5, spread=(0.9, 1.1)), Result("  rate", 7.0, "per second")],
    curves=[CURVE],
)


def _with(result: Result) -> Recording:
    return replace(RUN, results=[result])


def _raise(error: Exception) -> NoReturn:
    raise error


def test_a_recorded_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    assert records.load("part", tmp_path) is None
    records.save(RUN, tmp_path)
    assert records.load("part", tmp_path) == RUN
    assert records.load_all(tmp_path) == {"part": RUN}


def test_recording_says_what_it_wrote_over(tmp_path: Path) -> None:
    records.save(RUN, tmp_path)
    assert "2026-01-01 at abc" in records.save(RUN, tmp_path)


def test_a_run_names_the_command_that_measures_it_again() -> None:
    assert RUN.command == "python -m benchmarks --only part --photos 3"


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (Result("r", 0.79, goal=0.5), Result("r", 1.0, goal=0.5)),
        (Result("r", 0.71, goal=0.5), Result("r", 1.0, goal=0.5, spread=(0.9, 1.1))),
        (Result("r", 1.21, goal=2.0, most=True), Result("r", 1.0, goal=2.0, most=True)),
    ],
)
def test_a_ratio_worse_than_its_record_has_regressed(now: Result, then: Result) -> None:
    assert records.regressions(_with(now), _with(then)) == {"r": 1.0}


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (Result("r", 0.81, goal=0.5), Result("r", 1.0, goal=0.5)),
        (Result("r", 0.73, goal=0.5), Result("r", 1.0, goal=0.5, spread=(0.9, 1.1))),
        (Result("r", 1.19, goal=2.0, most=True), Result("r", 1.0, goal=2.0, most=True)),
        (Result("r", 5.0, goal=0.5), Result("r", 1.0, goal=0.5)),
        (Result("r", 0.1, "MiB", goal=0.5), Result("r", 1.0, "MiB", goal=0.5)),
        (Result("r", 0.1), Result("r", 1.0)),
        (Result("r", 0.1, goal=0.5), Result("another", 1.0, goal=0.5)),
    ],
    ids=[
        "within",
        "within the spread",
        "within, at most",
        "better",
        "no ratio",
        "no goal",
        "not recorded",
    ],
)
def test_what_is_no_regression(now: Result, then: Result) -> None:
    assert records.regressions(_with(now), _with(then)) == {}


def test_runs_of_other_machines_or_sizes_are_not_compared() -> None:
    assert records.incomparable(RUN, RUN) is None
    assert "4 cores" in str(records.incomparable(RUN, replace(RUN, machine=Machine("a processor", 4, None))))
    assert "--photos 3" in str(records.incomparable(replace(RUN, options={}), RUN))


def test_the_overview_shows_a_part_that_no_template_names() -> None:
    text = report.pages({"part": RUN})[report.OVERVIEW]
    assert "| ratio | 1 | 0.9 to 1.1 | ≥ 0.5 | reached |" in text
    assert "![A title: y by x](performance/part-a-title.svg)" in text


def test_every_part_has_a_place_on_one_page() -> None:
    text = "".join(report.pages({}).values())
    named = Counter(re.findall(r"--only ([\w-]+) --record`", text))
    assert named == Counter(command.FAST.keys() | command.LONG.keys())


def test_the_overview_opens_with_ten_figures_of_the_recorded_runs() -> None:
    recordings = records.load_all()
    shown = figures.headline(recordings)
    assert len(shown) == 10
    assert {figure.kind for figure in shown.values() if not figure.unit} <= {"share"}
    opening = report.pages(recordings)[report.OVERVIEW].partition("## ")[0]
    for figure in shown.values():
        machine = f"{figure.run.machine.cores} cores of {figure.run.machine.cpu}, {figure.run.date}"
        assert f"| {figure.what} | **{figure.shown}** | {figure.kind} | [{machine}](" in opening


def test_each_figure_follows_its_record() -> None:
    recordings = records.load_all()
    doubled = {
        name: replace(run, results=[replace(one, value=2 * one.value) for one in run.results])
        for name, run in recordings.items()
    }
    before, after = figures.headline(recordings), figures.headline(doubled)
    assert [after[name].number for name in before] == [
        pytest.approx(2 * figure.number) for figure in before.values()
    ]


def test_on_paper_is_the_core_time_of_the_roles_times_the_pictures() -> None:
    roles = {"fetch": 36.0, "encode": 108.0, "photo server": 1000.0}
    results = [
        Result(f"  bf16: core time of the processes: {role}", value, "ms per picture")
        for role, value in roles.items()
    ]
    results.append(Result("  bf16: kept in the blob store", 2.0, "KiB per picture"))
    (ingest,) = on_paper.ingests({"ingest": replace(RUN, results=results)})
    assert ingest.kept == 2048
    assert ingest.without_encode == pytest.approx(0.036)
    assert ingest.hours(1_000_000, machines=2) * 2 * on_paper.CORES == pytest.approx(40)
    assert ingest.dollars(1_000_000) == pytest.approx(40 * on_paper.CORE_HOUR)
    assert ingest.machines(rate=10 * on_paper.CORES / 0.144) == 10


def test_a_plot_is_the_same_file_each_time(tmp_path: Path) -> None:
    draw(CURVE, tmp_path / "first.svg")
    draw(CURVE, tmp_path / "second.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


@pytest.mark.parametrize(
    ("error", "said", "exit_code"), [(NotHere("No GPU."), "No GPU.", 0), (ValueError(), "broke", 1)]
)
def test_a_part_that_cannot_run_leaves_the_others_their_results(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, exit_code: int
) -> None:
    parts = {"first": lambda _: _raise(error), "second": lambda _: [Result("what second measures", 1)]}
    monkeypatch.setattr(command, "FAST", parts)
    ended = CliRunner().invoke(command.main, [])
    assert f"first: {'left out. ' if not exit_code else ''}{said}" in ended.output
    assert "what second measures" in ended.output
    assert ended.exit_code == exit_code


@pytest.mark.parametrize(("options", "exit_code"), [([], 1), (["--no-compare"], 0), (["--photos", "3"], 0)])
def test_a_regression_fails_the_run_if_it_is_compared(
    monkeypatch: pytest.MonkeyPatch, options: list[str], exit_code: int
) -> None:
    machine = records.this_machine()
    recorded = replace(_with(Result("ratio", 2.0, goal=0.5)), options={}, machine=machine)
    monkeypatch.setattr(command, "FAST", {"part": lambda _: [Result("ratio", 1.0, goal=0.5)]})
    monkeypatch.setattr(records, "load", lambda _: recorded)
    ended = CliRunner().invoke(command.main, options)
    assert ("REGRESSED from 2" in ended.output) is bool(exit_code)
    assert ended.exit_code == exit_code


def test_the_gpu_part_measures_a_model_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, with what only CUDA has left out: it shows that the part runs, not how fast."""
    torch = pytest.importorskip("torch")
    gpu = importlib.import_module("benchmarks.gpu")  # imports torch
    sizes = {"BATCHES": (2, 4), "OTHERS_BATCH": 2, "CROPS": 8, "ROUNDS": 1, "PRODUCTS": 1}
    others = ("tiny metaclip_2", "tiny chinese_clip", "tiny altclip")
    goal_shapes = {"tiny": 1e9, "tiny siglip": 1e9}
    stand_in = {"GPU": "cpu", "GOALS": goal_shapes, "OTHERS": others, "COMPILES": True, **sizes}
    for name, value in stand_in.items():
        monkeypatch.setattr(gpu, name, value)
    for name in ("_need_cuda", "_copies", "_processes"):
        monkeypatch.setattr(gpu, name, lambda *_: [])
    for name in ("reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    results = [result for result in gpu.measure(tmp_path) if isinstance(result, Result)]
    goals = {result.name for result in results if result.goal is not None}
    shapes = (*goal_shapes, *others)
    assert {f"{shape}: encode, share of a bare compiled loop" for shape in shapes} <= goals
    assert {"tiny: encode in bf16", "tiny siglip: encode in bf16"} <= goals
    assert all(result.value > 0 for result in results if result.unit == "pictures/s")


def test_the_choice_of_models_is_filled_from_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "ROUND_SECONDS", 0.001)
    monkeypatch.setattr(models, "MODELS", models.MODELS[:2])
    tiny_checkpoint(tmp_path / "default")
    tiny_checkpoint(tmp_path / "other", shape="tiny siglip")
    measured = [
        *models._measure(models.MODELS[0].name, tmp_path / "other", tmp_path / "default"),
        *models._measure(models.MODELS[1].name, tmp_path / "default", tmp_path / "default"),
    ]
    text = report.pages({"models": replace(RUN, part="models", results=measured)})[report.MODELS]
    rows = [line for line in text.splitlines() if line.startswith(("| `starter`", "| `laion/"))]
    assert [row.count("32 (128 bytes)") for row in rows] == [1, 1]
    assert "**1.00**" in rows[1]
    assert "in fp32" in text
