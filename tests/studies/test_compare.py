"""A comparison is fair (same rows, same budget, selection on train alone), says what it
measured, and survives a kill.
"""

import csv
import json
import os
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softcue.base import Base, open_base
from softcue.cli import main
from softcue.errors import RequestError
from softcue.readers import Data, Record, read_data
from softcue.readers.splits import select
from softcue.studies.compare import Cell, compare, majority, plan, share_out
from softcue.studies.compare_table import compare_markdown, notes
from softcue.training.settings import preset
from tests.text.tokenizer_cases import stored
from tests.tiny import tiny_hf
from tests.tiny_base import tiny_base

CLASSES = {"good": ("fine", "brown", "day"), "bad": ("lazy", "quick", "dog")}
QUICK = {"epochs": 2, "batch": 8}


def tiny_backbone(folder: Path) -> Path:
    """A random BERT with a tokenizer, as a folder that --backbone takes."""
    tiny_hf("bert", settings={"vocab_size": 300}).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(stored("bert"), encoding="utf-8")
    return folder


def write_rows(folder: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """A data set whose label is in its words; good is the commoner one."""
    chance = random.Random(seed)
    folder.mkdir(exist_ok=True)
    for split, size in sizes.items():
        rows = []
        for i in range(size):
            label = "bad" if i % 3 == 0 else "good"
            words = [chance.choice([*CLASSES[label], "the", "hello", "world"]) for _ in range(6)]
            rows.append(json.dumps({"text": " ".join([*words, CLASSES[label][0], str(i)]), "label": label}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def base(backbone: Path) -> Base:
    return open_base(str(backbone), "float32")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows"), {"train": 40, "dev": 10, "test": 18})


def scores_of(result: dict) -> dict:
    """What two runs of one comparison must agree in: everything but seconds."""
    return {
        (cell["method"], cell["seed"]): (cell["scores"], cell["parameters"], cell["made_with"])
        for cell in result["cells"]
    }


def test_the_table_is_the_mean_and_deviation_of_the_cells(rows: Path, base: Base, tmp_path: Path) -> None:
    result = compare(
        rows, ["pasta", "full", "majority"], tmp_path, seeds=3, backbone=base, settings=QUICK
    ).to_json()
    assert [row["method"] for row in result["table"]] == ["majority", "probe", "pasta", "full"]
    for row in result["table"][1:]:
        own = [cell["scores"]["macro_f1"] for cell in result["cells"] if cell["method"] == row["method"]]
        assert row["scores"]["macro_f1"]["mean"] == pytest.approx(sum(own) / 3)
        assert row["scores"]["macro_f1"]["deviation"] == pytest.approx(statistics.stdev(own))
    probe, pasta, full = result["table"][1:]
    whole = sum(p.numel() for p in base.backbone.encoder.parameters())
    head = 2 * 32 + 2
    assert (probe["parameters"], pasta["parameters"], full["parameters"]) == (0, 2 * 3 * 32, whole)
    assert pasta["share"] == pytest.approx(192 / whole) and full["share"] == 1
    assert [row["kilobytes"] for row in (probe, pasta)] == [
        pytest.approx(n * 4 / 1024) for n in (head, 192 + head)
    ]
    assert all(row["seconds"] > 0 for row in (probe, pasta, full))
    assert json.loads((tmp_path / "compare.json").read_text()) == result
    with (tmp_path / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines] == ["majority", "probe", "pasta", "full"]
    assert float(lines[2]["accuracy_mean"]) == pasta["scores"]["accuracy"]["mean"]
    assert lines[0]["parameters"] == ""
    written = (tmp_path / "compare.md").read_text()
    mean, deviation = (pasta["scores"]["accuracy"][part] for part in ("mean", "deviation"))
    assert f"| pasta | {mean:.4f} ± {deviation:.4f} |" in written
    assert (
        "reported on test (18 rows)" in written
        and "36 rows" in written
        and "without early stopping" in written
    )


def test_selection_is_on_train_alone_and_the_same_for_every_method(rows: Path) -> None:
    data = read_data(rows)
    for seed in range(3):
        selection = select(data, seed, from_train=True)
        own = [record.where for part in (selection.train, selection.select) for record in part]
        assert (
            sorted(own) == sorted(record.where for record in data.splits["train"])
            and len(selection.select) == 4
        )
        assert selection.report == data.splits["test"]
        assert selection.measured == f"selected on a tenth of train (seed {seed}), reported on test"
    without = replace(data, splits={name: data.splits[name] for name in ("train", "dev")})
    assert select(without, 0, from_train=True).report == data.splits["dev"]
    assert select(data, 0).select == data.splits["dev"]


def test_every_method_sees_as_many_examples(rows: Path, base: Base, tmp_path: Path) -> None:
    """Presets that differ (full fine-tuning's, the early stop) do not count here."""
    seen: Counter[str] = Counter()

    def report(prepared, run) -> None:
        if not prepared.fitted and run.step == run.total:
            seen[prepared.training.rate] += len(run.items) * run.training.epochs

    compare(
        rows,
        ["pasta", "lora", "full"],
        tmp_path,
        seeds=1,
        backbone=base,
        settings={"batch": 12, "epochs": 11},
        report=report,
    )
    assert len(seen) == 3 and set(seen.values()) == {36 * 11}


@pytest.mark.parametrize("rows_there", [40, 2_000, 100_000])
def test_without_epochs_all_methods_get_the_same_by_the_number_of_rows(rows: Path, rows_there: int) -> None:
    data = read_data(rows)
    data = replace(data, splits={**data.splits, "train": data.splits["train"] * (rows_there // 40)})
    budgets = [
        plan(data, method, ({}, {}), 0, None, 128).training for method in ("pasta", "gpc", "lora", "full")
    ]
    assert (
        budgets
        == [{"epochs": preset("default", "classify", rows_there, {}).epochs, "batch": 32, "patience": 0}] * 4
    )
    few, many, most = (preset("default", "classify", count, {}).epochs for count in (40, 2_000, 100_000))
    assert few > many > most


def test_a_finished_cell_is_never_made_again(rows: Path, base: Base, tmp_path: Path) -> None:
    first = compare(rows, ["pasta"], tmp_path, seeds=2, backbone=base, settings=QUICK).to_json()
    before = {file.name: file.read_bytes() for file in (tmp_path / "cells").iterdir()}
    steps: list[object] = []
    again = compare(
        rows,
        ["pasta"],
        tmp_path,
        seeds=2,
        backbone=base,
        settings=QUICK,
        report=lambda prepared, run: steps.append(run),
    ).to_json()
    assert again == first and not steps
    more = compare(rows, ["stp", "pasta"], tmp_path, seeds=3, backbone=base, settings=QUICK).to_json()
    assert {
        name: content
        for name, content in ((f.name, f.read_bytes()) for f in (tmp_path / "cells").iterdir())
        if name in before
    } == before
    assert len(more["cells"]) == 9
    fresh = compare(
        rows, ["stp", "pasta"], tmp_path / "fresh", seeds=3, backbone=base, settings=QUICK
    ).to_json()
    assert scores_of(more) == scores_of(fresh)


CHILD = """
import sys, torch
torch.set_num_threads(int(sys.argv[4]))
from softcue.studies.compare import compare
compare(sys.argv[1], ["pasta", "spt"], sys.argv[2], seeds=3, backbone=sys.argv[3], precision="float32",
        settings={"epochs": 8, "batch": 8}, say=lambda line: print(line, flush=True))
"""


def test_a_run_killed_at_any_moment_goes_on_to_the_undisturbed_table(
    rows: Path, backbone: Path, base: Base, tmp_path: Path
) -> None:
    arguments = [str(rows), str(tmp_path / "killed"), str(backbone), str(torch.get_num_threads())]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(3)]
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert told[0].startswith("probe seed 0: accuracy")
    kept = {file.name: file.read_bytes() for file in (tmp_path / "killed" / "cells").glob("*.json")}
    assert 3 <= len(kept) < 9
    settings = {"epochs": 8, "batch": 8}
    resumed = compare(
        rows, ["pasta", "spt"], tmp_path / "killed", seeds=3, backbone=base, settings=settings
    ).to_json()
    whole = compare(
        rows, ["pasta", "spt"], tmp_path / "whole", seeds=3, backbone=base, settings=settings
    ).to_json()
    assert scores_of(resumed) == scores_of(whole)
    assert all(
        (tmp_path / "killed" / "cells" / name).read_bytes() == content for name, content in kept.items()
    )


def test_a_folder_made_with_other_settings_is_refused_and_told_apart(
    rows: Path, base: Base, tmp_path: Path
) -> None:
    def run(where: Path | Data = rows, methods: tuple[str, ...] = ("ptuning",), **settings: object) -> None:
        compare(where, methods, tmp_path, seeds=1, backbone=base, settings={"length": 3, **QUICK, **settings})

    run()
    run(methods=("bitfit", "ptuning"))
    with pytest.raises(
        RequestError, match=r"training\.epochs is 2 in .*-0, 5 now\. Give the same, or another --out"
    ):
        run(epochs=5)
    with pytest.raises(RequestError, match=r"config\.length is 3 in ptuning-0, 4 now"):
        run(length=4)
    with pytest.raises(RequestError, match=r"training\.rate is"):
        run(rate=0.5)
    with pytest.raises(RequestError, match="data is"):
        run(replace(read_data(rows), positive="good"))
    with pytest.raises(RequestError, match=r"training\.epochs is 2"):  # though no cell of prompt is there yet
        run(methods=("prompt",), epochs=5)


def test_a_damaged_cell_is_named(rows: Path, base: Base, tmp_path: Path) -> None:
    compare(rows, [], tmp_path, seeds=1, backbone=base)
    file = tmp_path / "cells" / "probe-0.json"
    for content in ('{"method": "probe"}', "{", "[]", ""):
        file.write_text(content)
        with pytest.raises(RequestError, match=re.escape(f"{file} is not a finished cell")):
            compare(rows, [], tmp_path, seeds=1, backbone=base)


def test_majority_is_the_best_answer_without_reading() -> None:
    def data(kind: str, records: list[Record], labels: tuple[str, ...], metrics: tuple[str, ...]) -> Data:
        return Data(kind, {"train": records * 10, "test": records}, labels, False, "d", metrics)

    classify = [Record(text="a", label=label) for label in ("x", "y", "y", "z", "y")]
    assert majority(data("classify", classify, ("x", "y", "z"), ("accuracy",)), 0, tiny_base().text) == {
        "accuracy": 0.6
    }
    choice = [Record(text="a", choices=("p", "q", "r")[: 2 + i % 2], label=min(i, 1)) for i in range(4)]
    assert majority(data("choice", choice, (), ("accuracy",)), 0, tiny_base().text) == {"accuracy": 0.75}
    tag = [Record(tokens=("a", "b"), tags=("B-X", "O"))]
    assert majority(data("tag", tag, ("O", "B-X"), ("f1",)), 0, tiny_base().text) == {"f1": 0.0}
    score = [Record(text="a", label=float(i)) for i in range(5)]
    assert majority(data("score", score, (), ("pearson",)), 0, tiny_base().text) == {"pearson": 0.0}


def test_a_subset_is_named_before_everything_else(rows: Path, base: Base, tmp_path: Path) -> None:
    part = replace(read_data(rows), subset="subset of glue/sst2 (train 40 of 67,349 rows)")
    result = compare(part, [], tmp_path, seeds=1, backbone=base).to_json()
    assert notes(result)[0] == "**A subset**: subset of glue/sst2 (train 40 of 67,349 rows)."
    assert "one seed, so no deviation" in compare_markdown(result)


def test_a_setting_goes_to_the_methods_that_have_it(rows: Path, base: Base, tmp_path: Path) -> None:
    shares = share_out(["pasta", "spt", "full"], {"length": 4, "rate": 0.1})
    assert shares == {
        "pasta": ({}, {"rate": 0.1}),
        "spt": ({"length": 4}, {"rate": 0.1}),
        "full": ({}, {"rate": 0.1}),
    }
    with pytest.raises(RequestError, match="none of pasta, full has a setting length, magic"):
        share_out(["pasta", "full"], {"magic": 1, "length": 3})
    with pytest.raises(RequestError, match="method 'pastel' is unknown"):
        compare(rows, ["pastel"], tmp_path, backbone=base)
    with pytest.raises(RequestError, match="seeds 0 came"):
        compare(rows, ["pasta"], tmp_path, backbone=base, seeds=0)
    with pytest.raises(RequestError, match="epochs is 0; expected at least 1"):
        compare(rows, ["pasta"], tmp_path, backbone=base, settings={"epochs": 0})
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="cannot be written to"):
        compare(rows, ["pasta"], tmp_path / "file", backbone=base)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["softcue", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command_prints_the_table_and_goes_on_with_the_same_folder(
    rows: Path,
    backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [
        "--backbone",
        backbone,
        "--methods",
        "stp, lora",
        "--seeds",
        1,
        "--epochs",
        1,
        "--rows",
        20,
        "--out",
        tmp_path / "out",
    ]
    assert run_cli(monkeypatch, "compare", rows, *flags) == 0
    shown = capsys.readouterr()
    assert all(
        name in shown.out for name in ("majority", "probe", "stp", "lora", "reported on test (18 rows)")
    )
    assert "stp seed 0: accuracy" in shown.err
    assert run_cli(monkeypatch, "compare", rows, *flags, "--json") == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert (
        result["rows"] == {"train": 18, "selection": 2, "reported": 18} and shown.err.count("found in") == 3
    )
    assert Cell(**result["cells"][0]).name == "probe-0"
    assert run_cli(monkeypatch, "compare", rows, *flags, "--set", "rate=1") == 2
    assert "holds a comparison made with other settings" in capsys.readouterr().err


def test_what_the_page_shows_can_be_run(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^```console\nsoftcue (.+?)\n```$", page, flags=re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.+?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "trec", {"train": 20, "test": 6})
    monkeypatch.chdir(tmp_path)
    assert run_cli(monkeypatch, *shlex.split(line), "--seeds", 1, "--epochs", 1, "--backbone", backbone) == 0
    assert {file.name for file in (tmp_path / "comparison").glob("compare.*")} == {
        "compare.md",
        "compare.csv",
        "compare.json",
    }
    exec(code.replace('"minilm"', repr(str(backbone))), {"__name__": "user"})
    assert "pasta" in capsys.readouterr().out
