"""`eval --report`, `--unsure-below` and `train --metric`: what they write, print and refuse."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from softcue import api
from softcue.errors import DataError, SettingsError
from softcue.inspection import drawing
from softcue.inspection.drawing import draw_report
from softcue.scoring.report import report
from softcue.studies import plot
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401
from tests.test_api import quick
from tests.tiny_base import tiny_base, tiny_data


@pytest.mark.parametrize("kind", ["classify", "score", "tag"])
def test_a_report_has_the_figures_as_json_and_as_a_picture(
    kind: str, shell: Shell, place: Path, tmp_path: Path
) -> None:
    result = shell("eval", f"adapters/{kind}", f"data/{kind}", "--report", tmp_path / "report")
    assert result.code == 0, result.err
    values = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert f"saved {tmp_path / 'report' / 'report.json'}" in result.out
    assert values["rows"] == 9 and 0 < len(values["worst"]) <= 9
    first = values["worst"][0]
    assert first["truth"] != first["answer"] and first["where"] in result.out
    sizes = [row["how_wrong"] for row in values["worst"]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_report_overwrites_nothing_of_others(shell: Shell, place: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    told = shell.refused("eval", "adapters/classify", "data/classify", "--report", tmp_path)
    assert "report.json, which softcue did not write" in told


def test_answers_below_the_chance_are_unsure(shell: Shell, place: Path) -> None:
    words = ("predict", "adapters/classify", "--file", "data/classify/test.jsonl", "--unsure-below")
    answers = [json.loads(line) for line in shell(*words, "0.5").out.splitlines()]
    assert {answer["unsure"] for answer in answers} <= {True, False}
    assert all(answer["unsure"] == (answer["score"] < 0.5) for answer in answers)
    told = json.loads(
        shell("eval", "adapters/classify", "data/classify", "--unsure-below", "0.5", "--json").out
    )
    assert told["report"]["unsure"]["rows"] == sum(answer["unsure"] for answer in answers)
    assert (
        "unsure"
        not in json.loads(shell("eval", "adapters/classify", "data/classify", "--json").out)["report"]
    )
    assert "expected a chance from 0 to 1" in shell.refused(*words, "1.5")
    assert "came for score" in shell.refused("predict", "adapters/score", "the owl", "--unsure-below", "0.5")


def test_a_chance_that_was_trained_with_is_saved_and_used(tmp_path: Path) -> None:
    data: Any = tiny_data("tag")
    quick(data, unsure_below=1.0).save(tmp_path / "tags")
    found = api.predict(tmp_path / "tags", [{"tokens": ["alice", "was", "in", "rome"]}], backbone=tiny_base())
    assert all(entity["unsure"] for entity in found[0]["entities"])
    full = quick(tiny_data("choice"), unsure_below=0.0)
    row = {"text": "the", "choices": ["apple pear", "iron gold"]}
    assert "unsure" not in api.predict(full, [row], backbone=tiny_base())[0]
    with pytest.raises(SettingsError, match="came for score"):
        quick(tiny_data("score"), unsure_below=0.5)


def test_the_metric_that_selects_is_chosen_by_name_or_as_a_function() -> None:
    def birds(truth: Any, predicted: Any) -> float:
        return sum(a == b == "bird" for a, b in zip(truth, predicted, strict=True)) / len(truth)

    data = tiny_data("classify")
    by_name = quick(data, metric="macro_f1")
    assert list(by_name.scores)[:2] == ["macro_f1", "accuracy"]
    own = quick(data, metric=birds)
    assert 0 <= own.scores["birds"] <= 1 / 3 and 0 <= own.scores["selection"] <= 1 / 3
    with pytest.raises(DataError, match="metric 'f2' is unknown"):
        quick(data, metric="f2")
    with pytest.raises(DataError, match="which label is the positive one"):
        quick(data, metric="f1")

    def accuracy(truth: Any, predicted: Any) -> float:
        return 1.0

    def broken(truth: Any, predicted: Any) -> Any:
        return None

    with pytest.raises(SettingsError, match="metric accuracy is one of softcue's own"):
        quick(data, metric=accuracy)
    with pytest.raises(DataError, match="metric broken gave None; expected a finite number"):
        quick(data, metric=broken)


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"],
        [f"intent {number}" for number in range(20)],
        [f"a long name of a label about customers who want money {number}" for number in range(8)],
        ["$\\frac$", "costs $ or $$", "two\nlines"],
    ],
)
def test_every_label_of_the_picture_can_be_read(labels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(drawing, "as_png", lambda figure: figures.append(figure) or plot.as_png(figure))
    answers = [*labels[1:], labels[0]]
    draw_report(report("classify", labels * 2, [*labels, *answers], labels=labels))
    (figure,) = figures
    figure.draw_without_rendering()  # at its own resolution
    for axes in figure.axes[:2]:
        shown = [text.get_text() for text in axes.get_yticklabels()]
        assert len(set(shown)) == len(labels), "no two are called alike"
        boxes = [text.get_window_extent() for text in axes.get_yticklabels()]
        assert min(box.x0 for box in boxes) >= -1 and min(box.y0 for box in boxes) >= 0
        assert all(low.y1 <= high.y0 for low, high in pairwise(boxes)), "none stands on another"
        others = [one.get_window_extent() for one in figure.axes if one is not axes]
        assert not any(box.overlaps(other) for box in boxes for other in others)
