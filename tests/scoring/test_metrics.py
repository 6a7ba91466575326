"""Metrics and entities against seqeval, scikit-learn's definitions written the slow way, and
hand-made cases.
"""

import json
import math
import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

from softcue.errors import RequestError
from softcue.kinds import KINDS
from softcue.kinds.entities import Scheme, is_tag, spans, to_iob2
from softcue.scoring.metrics import METRICS, metrics_of, scores
from softcue.scoring.report import report, report_table

TAGS = ["O", "B-A", "I-A", "B-B", "I-B", "E-A", "S-A", "E-B", "S-B", "B-a-b", "I-a-b", "I-", "B", "I"]


def sequences(draw: random.Random, words: int, tags: list[str]) -> list[str]:
    return [draw.choice(tags) for _ in range(words)]


def test_entity_scores_equal_seqeval_on_ten_thousand_sequences():
    draw = random.Random(0)
    checked = 0
    for _ in range(500):
        tags = draw.choice([TAGS[:3], TAGS[:5], TAGS, ["O", "I-A", "I-B"], ["B-A", "I-A"]])
        lengths = [draw.randrange(9) for _ in range(20)]
        gold = [sequences(draw, n, tags) for n in lengths]
        close = [[draw.choice(tags) if draw.random() < 0.2 else tag for tag in row] for row in gold]
        predicted = close if draw.random() < 0.7 else [sequences(draw, n, tags) for n in lengths]
        ours = scores("tag", ["precision", "recall", "f1"], gold, predicted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)[:3]
        assert list(ours.values()) == pytest.approx([float(value) for value in theirs], abs=1e-12)
        checked += len(lengths)
    assert checked == 10_000


@pytest.mark.filterwarnings("ignore")
@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_spans_equal_seqeval_on_any_sequence(tags):
    assert spans(tags) == [(kind, start, end + 1) for kind, start, end in get_entities(tags)]


@st.composite
def entities(draw):
    found = []
    for kind, length in draw(
        st.lists(st.tuples(st.sampled_from(["A", "B", "O"]), st.integers(1, 4)), max_size=6)
    ):
        start = found[-1][2] if found else 0
        found.append((kind, start, start + length))
    return found


def written(found, scheme):
    """Spans as tags of a scheme, the slow way; type "O" is no entity."""
    tags = []
    for at, (kind, start, end) in enumerate(found):
        size = end - start
        if kind == "O":
            tags += ["O"] * size
        elif scheme == "IOB1":
            touches = at > 0 and found[at - 1][0] == kind
            tags += ["B-A" if touches else "I-A"] + ["I-A"] * (size - 1)
        elif scheme == "IOB2":
            tags += ["B-A"] + ["I-A"] * (size - 1)
        else:
            single, last = ("S", "E") if scheme == "BIOES" else ("U", "L")
            tags += [f"{single}-A"] if size == 1 else ["B-A"] + ["I-A"] * (size - 2) + [f"{last}-A"]
        if kind != "O":
            tags[-size:] = [tag[:2] + kind for tag in tags[-size:]]
    return tags


@given(entities(), st.sampled_from(["IOB1", "IOB2", "BIOES", "BILOU"]))
def test_every_scheme_converts_to_the_same_iob2(found, scheme):
    tags = written(found, scheme)
    assert to_iob2(tags) == tuple(written(found, "IOB2"))
    seen = Scheme()
    seen.see(tags, "x:1")
    assert seen.faults == 0
    assert spans(to_iob2(tags)) == [span for span in found if span[0] != "O"]


@pytest.mark.parametrize(
    ("sentences", "name", "faults"),
    [
        ([["I-A", "I-A", "B-A", "O"]], "IOB1", 0),
        ([["B-A", "I-A", "O"], ["O", "I-B"]], "IOB2", 1),
        ([["B-A", "E-A", "S-B"]], "BIOES", 0),
        ([["B-A", "L-A", "U-B", "I-B"]], "BILOU", 2),
        ([["B-A", "O", "S-A"]], "BIOES", 1),
        ([["O"]], "IOB2", 0),
    ],
)
def test_scheme_of_a_file_is_recognised_and_its_faults_counted(sentences, name, faults):
    scheme = Scheme()
    for number, tags in enumerate(sentences, start=1):
        scheme.see(tags, f"x:{number}")
    assert (scheme.name, scheme.faults) == (name, faults)


def test_types_with_letters_of_a_scheme_survive_conversion():
    assert to_iob2(["B-LOCUS", "L-LOCUS", "U-L"]) == ("B-LOCUS", "I-LOCUS", "B-L")
    assert not any(map(is_tag, ["", "B", "B-", "b-PER", "PER", "B_PER", "O-PER", "o"]))


def test_mixing_two_schemes_with_closing_tags_is_refused():
    scheme = Scheme()
    scheme.see(["S-A", "U-A"], "x:1")
    with pytest.raises(RequestError, match="BIOES"):
        _ = scheme.name


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constant_scores_correlate_zero_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scores("score", [name], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == {name: 0.0}
        assert scores("score", [name], [1.0, 1.0], [1.0, 2.0]) == {name: 0.0}
        assert scores("score", [name], [1.0], [2.0]) == {name: 0.0}
        assert abs(scores("score", [name], [1.0, 2.0, 3.0], [1.0, 1.0 + 1e-16, 1.0 + 4e-16])[name]) <= 1.0
        assert scores("score", [name], [1.0, 2.0, 3.0], [1.0, math.nan, 2.0]) == {name: 0.0}
        assert scores("classify", ["matthews"], ["a", "b"], ["a", "a"]) == {"matthews": 0.0}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_classification_scores_equal_their_definitions(pairs):
    gold, predicted = zip(*pairs, strict=True)
    values = scores(
        "classify", ["accuracy", "macro_f1", "f1", "precision", "recall"], gold, predicted, positive="a"
    )
    by_label = {}
    for label in sorted({*gold, *predicted}):
        right = sum(a == b == label for a, b in pairs)
        by_label[label] = 2 * right / (gold.count(label) + predicted.count(label))
    assert values["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert values["macro_f1"] == pytest.approx(sum(by_label.values()) / len(by_label))
    assert values["f1"] == pytest.approx(by_label.get("a", 0.0))


def test_matthews_equals_its_equation():
    gold, predicted = list("1110000010"), list("1010010010")
    tp, tn, fp, fn = 3, 5, 1, 1
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert scores("classify", ["matthews"], gold, predicted)["matthews"] == pytest.approx(expected)


def test_pearson_and_spearman_equal_their_equations():
    gold, predicted = [0.0, 1.0, 2.0, 4.0], [0.5, 0.4, 3.0, 20.0]

    def correlation(x, y):
        mx, my = sum(x) / len(x), sum(y) / len(y)
        top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
        return top / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))

    values = scores("score", ["pearson", "spearman"], gold, predicted)
    assert values["pearson"] == pytest.approx(correlation(gold, predicted))
    assert values["spearman"] == pytest.approx(correlation([1, 2, 3, 4], [2, 1, 3, 4]))


def test_multirc_scores_answers_and_whole_questions():
    gold = ["true", "false", "true", "true"]
    predicted = ["true", "true", "true", "true"]
    values = scores(
        "classify", ["f1a", "em"], gold, predicted, groups=["0-0", "0-0", "0-1", "0-1"], positive="true"
    )
    assert values == {"f1a": pytest.approx(2 * 3 / (4 + 3)), "em": 0.5}


def test_record_scores_the_surest_entity_against_all_answers():
    extra = [
        {"entity": "Barack Obama", "answers": ["the Obama!", "Barack H. Obama"]},
        {"entity": "Paris", "answers": ["the Obama!", "Barack H. Obama"]},
        {"entity": "A Paris", "answers": ["Paris"]},
    ]
    rows = {"groups": ["q", "q", "r"], "positive": "true", "extra": extra}
    gold, predicted = ["false", "false", "true"], ["true", "false", "true"]
    values = scores(
        "classify", ["record_f1", "record_em"], gold, predicted, confidence=[0.9, 0.2, 0.1], **rows
    )
    assert values == {"record_f1": pytest.approx((2 * 2 / (2 + 3) + 1) / 2), "record_em": 0.5}
    surer = scores("classify", ["record_f1"], gold, predicted, confidence=[0.1, 0.2, 0.1], **rows)
    assert surer["record_f1"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("classify", ["acuracy"], ["a"], ["a"]), "unknown"),
        (("classify", ["accuracy"], [], []), "at least one"),
        (("classify", ["accuracy"], ["a", "b"], ["a"]), "1 answers for 2 rows"),
        (("classify", ["f1"], ["a"], ["a"]), "positive"),
        (("classify", ["em"], ["a"], ["a"]), "question"),
        (("classify", ["record_em"], ["a"], ["a"]), "entity"),
        (("tag", ["f1"], [["O", "O"]], [["O"]]), "1 tags predicted for 2 words"),
    ],
)
def test_scores_that_cannot_be_had_are_refused_with_the_reason(arguments, message):
    with pytest.raises(RequestError, match=message):
        scores(*arguments)


def test_default_metrics_of_every_kind_are_known():
    for kind in KINDS:
        assert all(name in METRICS for name in metrics_of(kind))


def test_report_of_classes_counts_errors_where_they_are():
    gold, predicted = ["a", "a", "b", "new"], ["a", "b", "b", "a"]
    result = report(
        "classify", gold, predicted, [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], labels=("a", "b")
    )
    assert result["labels"] == ["a", "b", "new"]
    assert result["confusion"] == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert result["per_label"]["b"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert result["calibration"]["ece"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.7) / 4)
    assert json.loads(json.dumps(result)) == result
    assert "new" in report_table(result)


def test_reports_of_the_other_kinds_are_json_too():
    tags = report("tag", [["B-A", "O"], ["B-B", "I-B"]], [["B-A", "O"], ["B-B", "O"]])
    assert tags["per_label"]["B"]["f1"] == 0.0 and tags["per_label"]["A"]["f1"] == 1.0
    assert tags["labels"] == ["O", "A", "B"] and tags["confusion"] == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    numbers = report("score", [1.0, 2.0, 4.0], [1.0, 3.0, 3.0])
    assert numbers["mean_absolute_error"] == pytest.approx(2 / 3)
    choice = report("choice", [0, 1], [0, 0], [[0.8, 0.2], [0.6, 0.4]])
    assert choice["scores"]["accuracy"] == 0.5
    for result in (tags, numbers, choice):
        assert json.loads(json.dumps(result)) == result
        assert f"{result['rows']} rows" in report_table(result)


def test_perfect_confidence_in_right_answers_has_no_calibration_error():
    result = report("classify", ["a", "b"], ["a", "b"], [[1.0, 0.0], [0.0, 1.0]], labels=("a", "b"))
    assert result["calibration"]["ece"] == 0.0
