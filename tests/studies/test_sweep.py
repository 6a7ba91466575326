"""A sweep says what each run came to, keeps the best adapter, survives a kill, and refuses what
does not go together.
"""

import csv
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from softcue.adapter import Adapter
from softcue.api import evaluate
from softcue.cli import main
from softcue.cli.sweep import with_local
from softcue.cues import Cue
from softcue.errors import RequestError
from softcue.readers.records import Record
from softcue.studies.live import Board, Lines
from softcue.studies.plot import plot, rate_lines
from softcue.studies.space import Point
from softcue.studies.table import file_name
from softcue.studies.trials import Outcome, Result, SearchObserver, Terms, Trial
from tests.studies.sweep_cases import DATA, GRID, quick, timeless, write_data, written
from tests.studies.test_sweep_survival import Counted
from tests.tiny_base import base_folder, tiny_base, tiny_data


def test_every_point_and_seed_is_run_once_and_all_files_say_the_same(tmp_path: Path) -> None:
    result = quick(tmp_path, methods=("apt", "pasta"), seeds=2)
    runs = [
        (run["method"], run["settings"]["rate"], run["settings"].get("length"), run["seed"])
        for run in result["runs"]
    ]
    apt = [
        ("apt", rate, length, seed) for rate in GRID["rate"] for length in GRID["length"] for seed in (0, 1)
    ]
    assert sorted(runs, key=repr) == sorted(
        [*apt, *(("pasta", rate, None, seed) for rate in GRID["rate"] for seed in (0, 1))], key=repr
    )
    assert written(tmp_path) == json.loads(json.dumps(timeless(result)))
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["selection"]) for row in rows] == [run["selection"] for run in result["runs"]]
    assert [row["length"] for row in rows] == [
        str(run["settings"].get("length", "")) for run in result["runs"]
    ]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", sorted(m for m in Cue.registry if not Cue.registry[m].frozen_outputs))
def test_every_method_can_be_swept_with_nothing_but_its_defaults(tmp_path: Path, method: str) -> None:
    result = quick(tmp_path, methods=(method,), grid={"rate": [1e-3, 1e-2]})
    assert [run["settings"]["rate"] for run in result["runs"]] == [1e-3, 1e-2]
    assert all(run["selection"] is not None for run in result["runs"])


def test_the_best_point_is_that_of_the_highest_mean_and_its_adapter_has_the_scores_of_the_reported_rows(
    tmp_path: Path,
) -> None:
    result = quick(tmp_path, seeds=2)
    own = result["data"][0]
    means: dict[str, list[float]] = {}
    for run in result["runs"]:
        means.setdefault(json.dumps(run["settings"]), []).append(run["selection"])
    assert mean(means[json.dumps(own["best"]["settings"])]) == max(map(mean, means.values()))
    assert own["table"][0]["mean"] == max(map(mean, means.values()))
    assert own["best"]["scores"]["selection"] == max(means[json.dumps(own["best"]["settings"])])
    adapter = Adapter.load(tmp_path / "best")
    assert adapter.scores == own["best"]["scores"]
    assert (
        evaluate(adapter, DATA, split="test", backbone=tiny_base()).scores["accuracy"]
        == adapter.scores["accuracy"]
    )
    assert (
        adapter.measured
        == f"selected on a tenth of train (seed {adapter.seed}), reported on test; the best of 8 runs of a "
        "sweep"
    )


def test_rows_that_are_reported_choose_nothing(tmp_path: Path) -> None:
    """Another test set, and dev set, changes no run and no choice."""
    labels = sorted(DATA.labels)

    def other(record: Record) -> Record:
        return replace(record, label=labels[(labels.index(str(record.label)) + 1) % len(labels)])

    turned = {
        split: rows if split == "train" else [other(row) for row in rows]
        for split, rows in DATA.splits.items()
    }
    one, two = quick(tmp_path / "one"), quick(tmp_path / "two", data=[replace(DATA, splits=turned)])
    assert one["runs"] == two["runs"]
    assert one["data"][0]["best"]["settings"] == two["data"][0]["best"]["settings"]


def test_several_data_sets_each_have_a_winner_and_share_loops(tmp_path: Path) -> None:
    tags = tiny_data("tag")
    groups: list[int] = []

    class Counting(SearchObserver):
        def result(self, result: Result) -> None:
            groups.append(len({outcome.trial.data for outcome in result.outcomes}))

    result = quick(
        tmp_path, data=[DATA, tags], methods=["bitfit"], grid={"rate": [1e-2, 3e-2]}, watch=Counting()
    )
    assert groups == [2]
    assert [Adapter.load(tmp_path / "best" / name).kind for name in (DATA.name, tags.name)] == [
        "classify",
        "tag",
    ]
    first = result["together"][0]
    scores = [run["selection"] for run in result["runs"] if run["settings"] == first["settings"]]
    assert first["mean"] == pytest.approx(mean(scores))


def test_a_halving_says_how_far_each_point_came(tmp_path: Path) -> None:
    rates = [1e-4 * 3**i for i in range(6)]
    settings = {"batch": 16}
    result = quick(
        tmp_path, methods=["bitfit"], grid={"rate": rates}, halving=True, budget="9_000", settings=settings
    )
    assert [row["rung"] for row in result["data"][0]["table"]] == [2, 2, 1, 1, 1, 1]
    assert len(result["runs"]) == 8
    assert result["data"][0]["best"]["settings"] == result["data"][0]["table"][0]["settings"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"data": []}, "no data came"),
        ({"data": [DATA, DATA]}, "came twice"),
        ({"methods": []}, "no method came"),
        ({"methods": ["nope"]}, "method 'nope' is unknown"),
        ({"seeds": 0}, "seeds 0 came"),
        ({"draws": 0}, "random 0 came"),
        ({"draws": 3, "grid": {}}, "without anything to draw"),
        ({"budget": "10m"}, "budget came without halving"),
        ({"halving": True, "budget": "soon", "settings": {}}, "budget 'soon' came"),
        ({"halving": True}, "halving decides on epochs"),
        ({"grid": {"lenght": [1]}}, "has a setting lenght"),
        ({"grid": {"length": [0]}}, "length is 0; expected at least 1"),
        ({"backbone": "no-such-backbone"}, "no-such-backbone"),
        ({"pooling": "pooler?"}, "pooling 'pooler\\?'"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    tmp_path: Path, given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(Exception, match=expected) as caught:
        quick(tmp_path, **given)
    assert type(caught.value).__module__ == "softcue.errors"
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_to_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    counted = Counted()
    with pytest.raises(RequestError, match=r"file is a file; expected a folder"):
        quick(tmp_path / "file", watch=counted)
    assert not counted.steps


def test_without_a_grid_rates_around_the_preset_are_tried(tmp_path: Path) -> None:
    result = quick(tmp_path, methods=["bitfit", "pasta"], grid=None)
    assert [run["rate"] for run in result["runs"]] == [run["settings"]["rate"] for run in result["runs"]]
    assert [run["method"] for run in result["runs"]].count("bitfit") == len(result["runs"]) / 2 > 3


def test_the_plot_has_a_line_for_each_method_and_length_over_the_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = quick(tmp_path, methods=["apt", "pasta"], settings={}, grid={**GRID, "epochs": [1]}, seeds=2)
    drawn = rate_lines(result, DATA.name)
    assert set(drawn) == {"apt length=2 epochs=1", "apt length=4 epochs=1", "pasta epochs=1"}
    runs = [r["selection"] for r in result["runs"] if r["method"] == "pasta" and r["rate"] == 1e-2]
    assert [rate for rate, _ in drawn["pasta epochs=1"]] == [1e-3, 1e-2]
    assert drawn["pasta epochs=1"][1][1] == pytest.approx(mean(runs))
    told: list[str] = []
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    plot(result, tmp_path / "other.png", told.append)
    assert "softcue[plots]" in told[0]
    assert not (tmp_path / "other.png").exists()


def test_the_live_table_shows_the_best_so_far_the_rung_and_the_time_left() -> None:
    now = [0.0]
    board = Board(lambda: now[0])
    trials = [Trial(Point("apt", {"rate": rate}), DATA.name, 0) for rate in (1e-3, 1e-2, 3e-2)]
    board.rung(1, 2, [tuple(trials)], Terms({DATA.name: DATA}))
    assert board.seconds_left() is None
    now[0] = 10.0
    board.result(
        Result(
            tuple(
                Outcome(trial, score, 1, 1.0, 1, 1)
                for trial, score in zip(trials, (0.5, 0.75, None), strict=True)
            ),
            {},
            1.0,
        )
    )
    assert board.seconds_left() == pytest.approx(10.0)
    assert board.title() == "rung 1 of 2: 3 of 3 runs, about 10 s left"
    cells = [list(column.cells) for column in board.__rich__().columns]
    assert cells[1] == ["apt rate=0.01", "apt rate=0.001"]
    assert cells[3] == ["accuracy 0.7500", "accuracy 0.5000"]
    board.rung(2, 2, [tuple(trials[:1])], Terms({DATA.name: DATA}))
    assert board.__rich__().row_count == 0


def test_elsewhere_than_on_a_terminal_a_line_a_minute_tells_how_it_goes() -> None:
    now, told = [0.0], list[str]()
    board = Lines(told.append, lambda: now[0])
    trials = [Trial(Point("apt", {"rate": rate}), DATA.name, 0) for rate in (1e-3, 1e-2, 3e-2)]
    board.rung(1, 1, [tuple(trials[:2]), tuple(trials[2:])], Terms({DATA.name: DATA}))
    now[0] = 59.0
    board.result(
        Result(
            tuple(
                Outcome(trial, score, 1, 1.0, 1, 1) for trial, score in zip(trials, (0.5, 0.75), strict=False)
            ),
            {},
            1.0,
        )
    )
    assert told == []
    now[0] = 60.0
    board.tell()
    board.tell()
    assert told == [
        f"rung 1 of 1: 2 of 3 runs, about 30 s left; {DATA.name}: accuracy 0.7500 by apt rate=0.01"
    ]


@pytest.mark.parametrize(
    ("name", "folder"), [("glue/sst2", "glue-sst2"), ("../up", "up"), ("a b.c", "a-b.c"), ("..", "data")]
)
def test_a_data_set_of_any_name_has_a_folder_of_its_own(name: str, folder: str) -> None:
    assert file_name(name) == folder


def test_ray_may_come_without_an_address() -> None:
    assert with_local(["rows", "--ray"]) == ["rows", "--ray", "local"]
    assert with_local(["rows", "--ray", "--seeds", "2"]) == ["rows", "--ray", "local", "--seeds", "2"]
    assert with_local(["--ray", "host:6379", "rows"]) == ["--ray", "host:6379", "rows"]


def test_the_command_prints_the_best_and_takes_lr_for_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_data(tmp_path / "rows", DATA), tmp_path / "out"
    flags = [
        "--method",
        "apt",
        "--out",
        str(out),
        "--backbone",
        str(base_folder()),
        "--grid",
        "lr=1e-3,1e-2",
        "--grid",
        "length=2,4",
    ]
    monkeypatch.setattr(
        sys, "argv", ["softcue", "sweep", str(data), *flags, "--set", "epochs=1", "--precision", "float32"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    result = json.loads((out / "sweep.json").read_text())
    assert {run["rate"] for run in result["runs"]} == {1e-3, 1e-2}
    assert str(Point("apt", result["data"][0]["best"]["settings"])) in shown
    assert f"{out}/best" in shown


def test_the_command_refuses_a_budget_without_halving_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["softcue", "sweep", "x", "--method", "apt", "--out", str(tmp_path), "--budget", "10m"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_the_page_shows_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    lines = re.findall(r"^```console\nsoftcue (.+?)\n```$", page, flags=re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.+?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_data(tmp_path / "data" / "trec", DATA)
    assert len(lines) == 2
    for shown in lines:
        line = shown.replace("--auto 5", "--auto 0.01").replace("--seeds 3", "--seeds 2")
        monkeypatch.setattr(
            sys,
            "argv",
            ["softcue", *shlex.split(line), "--backbone", str(base_folder()), "--set", "epochs=1"],
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    assert Adapter.load("sweeps/trec/best").method == "apt"
    assert Adapter.load("adapters/trec").method == "spt"
    user: dict[str, Any] = {"__name__": "user"}
    exec(code.replace('"minilm"', repr(str(base_folder()))).replace("50_000", "3_000"), user)
    assert len(user["result"].runs) > 12


def test_a_sweep_reads_columns_of_any_name_in_any_encoding_and_its_adapter_remembers_them(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mails"
    folder.mkdir()
    rows = [f"caf\u00e9 {r.text};{r.label}" for r in DATA.splits["train"]]
    (folder / "train.csv").write_text("\n".join(["Sujet;Th\u00e8me", *rows, ""]), "cp1252")
    columns = {"text": "Sujet", "label": "Th\u00e8me"}
    quick(tmp_path / "out", [folder], grid={"rate": [1e-2]}, columns=columns, encoding="cp1252", rows=30)
    best = Adapter.load(tmp_path / "out" / "best")
    assert (best.columns, best.encoding, best.rows) == (columns, "cp1252", 30)
