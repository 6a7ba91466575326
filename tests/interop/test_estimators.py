"""scikit-learn's estimators: its own checks, and answers that are those of train and Predictor."""

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import softcue
from softcue.answering.predict import Predictor
from softcue.errors import AdapterError, DataError, SettingsError
from softcue.interop.estimators import SoftcueClassifier, SoftcueTagger
from softcue.scoring.metrics import scores
from tests.tiny_base import base_folder, tiny_base, tiny_data

QUICK: dict[str, Any] = {"method": "bitfit", "epochs": 3, "rate": 1e-2}
# What scikit-learn checks of every estimator without giving it numbers. All its other checks fit one to a
# table of numbers, but for check_do_not_raise_errors_in_init_or_set_params: it takes `settings`, the name of
# the keyword arguments, for a parameter.
CHECKED = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


def texts(rows: int = 60) -> tuple[list[str], list[str]]:
    records = tiny_data("classify", train=rows).splits["train"]
    return [str(record.text) for record in records], [str(record.label) for record in records]


def sentences(rows: int = 40) -> tuple[list[list[str]], list[list[str]]]:
    records = tiny_data("tag", train=rows).splits["train"]
    return [list(record.tokens) for record in records], [list(record.tags) for record in records]


def classifier(**changes: Any) -> SoftcueClassifier:
    return SoftcueClassifier(tiny_base(), **{**QUICK, **changes})


def tagger(**changes: Any) -> SoftcueTagger:
    return SoftcueTagger(tiny_base(), **{**QUICK, **changes})


class TwoDimensional(SoftcueClassifier):
    """Says that it reads tables, so that scikit-learn names all its checks."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@pytest.mark.parametrize("name", CHECKED)
def test_scikit_learn_finds_no_fault_where_it_gives_no_numbers(name: str) -> None:
    found = [
        (estimator, check)
        for estimator, check in estimator_checks_generator(TwoDimensional(str(base_folder())))
        if name in str(check)
    ]
    assert found
    for estimator, check in found:
        check(estimator)


@pytest.mark.parametrize("estimator", [classifier(), tagger()])
def test_check_estimator_passes_and_says_that_its_tables_of_numbers_do_not_apply(estimator: Any) -> None:
    with pytest.warns(SkipTestWarning, match="requires input"):
        check_estimator(estimator)
    tags = estimator.__sklearn_tags__().input_tags
    assert tags.string and tags.one_d_array and not tags.two_d_array


def test_numbers_are_refused_by_row() -> None:
    with pytest.raises(DataError, match=r"row 0 of X is \[0.5, 1.5\]; expected a text"):
        classifier().fit(np.array([[0.5, 1.5], [1.0, 2.0]]), ["a", "b"])
    with pytest.raises(ValueError, match="continuous"):
        classifier().fit(["a text", "another"], [0.5, 1.25])
    with pytest.raises(ValueError, match="inconsistent numbers"):
        classifier().fit(["a text", "another"], ["a"])


def test_a_classifier_answers_as_the_predictor_of_its_adapter_does() -> None:
    X, y = texts()
    fitted = classifier()
    assert fitted.fit(X, y) is fitted
    answers = Predictor(tiny_base(), {"it": fitted.adapter_})([{"adapter": "it", "text": text} for text in X])
    assert fitted.predict(X).tolist() == [answer["label"] for answer in answers]
    expected = [[answer["scores"][label] for label in fitted.classes_] for answer in answers]
    assert np.allclose(fitted.predict_proba(X), expected, atol=1e-6)
    assert fitted.score(X, y) == accuracy_score(y, fitted.predict(X)) > 0.5
    log_loss(y, fitted.predict_proba(X))  # warns where chances do not add up to 1
    assert fitted.predict_proba([]).shape == (0, 3)


def test_a_classifier_keeps_the_type_and_order_of_labels() -> None:
    X, y = texts()
    numbers = np.array([{"bird": 10, "fruit": 9, "metal": -1}[label] for label in y])
    fitted = classifier().fit(np.array(X), numbers)
    assert fitted.classes_.tolist() == [-1, 9, 10] and fitted.adapter_.labels == ("-1", "9", "10")
    assert fitted.predict(X).dtype == numbers.dtype
    assert fitted.score(X, numbers) > 0.5


def test_a_classifier_reads_pairs_of_texts() -> None:
    X, y = texts()
    pairs = list(zip(X, reversed(X), strict=True))
    fitted = classifier().fit(pairs, y)
    assert fitted.adapter_.pair
    assert fitted.predict(np.array(pairs)).tolist() == fitted.predict(pairs).tolist()
    with pytest.raises(DataError, match="row 0 of X gives text; expected text and text_pair"):
        fitted.predict(X)


def test_a_tagger_gives_a_tag_for_each_token() -> None:
    X, y = sentences()
    fitted = tagger(epochs=6, batch=8, rate=5e-2).fit(X, y)
    found = fitted.predict(X)
    assert [len(tags) for tags in found] == [len(tokens) for tokens in X]
    answers = Predictor(tiny_base(), {"it": fitted.adapter_})([{"adapter": "it", "tokens": t} for t in X])
    assert found == [answer["tags"] for answer in answers]
    assert fitted.score(X, y) == scores("tag", ("f1",), y, found)["f1"] > 0.2
    chances = fitted.predict_proba(X)
    assert chances[0].shape == (len(X[0]), len(fitted.classes_))
    with pytest.raises(DataError, match="row:0: 1 tokens and 2 tags"):
        tagger().fit([["one"], ["two"]], [["O", "O"], ["O"]])


def test_rows_that_fit_cannot_read_are_named() -> None:
    with pytest.raises(DataError, match="row:1: text is empty"):
        classifier().fit(["a text", " ", "more"], ["a", "b", "a"])
    with pytest.raises(DataError, match="row:0: tokens is 'the owl'; expected a list"):
        tagger().fit(["the owl", "a fig"], [["O", "O"], ["O", "O"]])


def test_parameters_are_those_of_train_and_every_setting_is_one() -> None:
    one = classifier(method="spt", length=4)
    assert one.get_params()["length"] == 4 and one.get_params()["rate"] == 1e-2
    other = clone(one).set_params(length=8, random_state=3)
    assert (other.get_params()["length"], one.get_params()["length"]) == (8, 4)
    assert other.backbone is one.backbone  # a frozen encoder is not copied
    job = other.job_of(other.data_of(other.requests_of(texts()[0]), texts()[1]))
    assert (job.method, job.settings, job.seed) == ("spt", {"length": 8}, 3)
    assert job.training == {"epochs": 3, "rate": 1e-2}
    with pytest.raises(SettingsError, match="has a setting lenght"):
        classifier(lenght=4)
    with pytest.raises(SettingsError, match="pasta has no setting length"):
        classifier(method="pasta", length=4).fit(*texts())


def test_a_fit_repeats_itself_and_changes_no_parameter() -> None:
    X, y = texts()
    one = classifier()
    before = copy.copy(one.get_params())
    first = one.fit(X, y).predict_proba(X)
    assert one.get_params() == before
    assert np.array_equal(one.fit(X, y).predict_proba(X), first)
    assert not np.array_equal(classifier(random_state=1).fit(X, y).predict_proba(X), first)
    order = list(reversed(range(len(X))))
    assert np.allclose(one.predict_proba([X[i] for i in order])[order], first, atol=1e-5)


def test_what_is_not_fitted_says_so() -> None:
    for one in (classifier(), tagger()):
        with pytest.raises(NotFittedError):
            one.predict(["a text"])


def test_a_fitted_estimator_is_copied_pickled_and_dumped_with_checked_bytes(tmp_path: Path) -> None:
    X, y = texts()
    fitted = SoftcueClassifier(str(base_folder()), **QUICK).fit(X, y)
    chances = fitted.predict_proba(X)
    joblib.dump(fitted, tmp_path / "fitted")
    others = (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "fitted"))
    for other in others:
        assert np.array_equal(other.predict_proba(X), chances)
    state = fitted.__getstate__()
    header = state["adapter_"]["adapter_config.json"]
    state["adapter_"]["adapter_config.json"] = header.replace(b"bird", b"bard")
    with pytest.raises(AdapterError, match="a pickled estimator"):
        SoftcueClassifier().__setstate__(state)


def test_a_pickle_names_its_encoder_and_does_not_hold_it() -> None:
    whole = io.BytesIO()
    pickle.dump(classifier(), whole)
    assert len(whole.getvalue()) < 2_000
    again = pickle.loads(whole.getvalue()).backbone
    assert again is not tiny_base() and again.fingerprint == tiny_base().fingerprint


def test_estimators_work_where_scikit_learn_takes_any() -> None:
    X, y = texts()
    search = GridSearchCV(classifier(), {"rate": [1e-6, 1e-2]}, cv=2).fit(X, y)
    assert search.best_params_ == {"rate": 1e-2}
    assert len(cross_val_score(tagger(), *sentences(), cv=2)) == 2
    lower = FunctionTransformer(lambda rows: [row.lower() for row in rows])
    assert make_pipeline(lower, classifier()).fit(X, y).score(X, y) > 0.5


def test_the_package_names_them() -> None:
    assert softcue.SoftcueClassifier is SoftcueClassifier
    assert softcue.SoftcueTagger is SoftcueTagger
