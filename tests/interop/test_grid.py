"""The packed grid search: its results are those of scikit-learn's own, and its fits come from packed runs."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit

import softcue
from softcue.errors import SettingsError
from softcue.interop import estimators
from softcue.interop.grid import PackedGridSearch
from tests.interop.test_estimators import classifier, sentences, tagger, texts

STILL: dict[str, Any] = {"epochs": 1, "backbone_dropout": False, "head_dropout": 0.0}
SCORES = ("split0_test_score", "split1_test_score", "mean_test_score", "rank_test_score")


def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each call of fit trained by itself."""
    calls: list[int] = []
    train_jobs = estimators.train_jobs

    def counted(jobs: Any, *given: Any, **named: Any) -> Any:
        calls.append(len(jobs))
        return train_jobs(jobs, *given, **named)

    monkeypatch.setattr(estimators, "train_jobs", counted)
    return calls


def same_results(packed: PackedGridSearch, plain: GridSearchCV) -> None:
    assert packed.cv_results_["params"] == plain.cv_results_["params"]
    for name in SCORES:
        assert np.allclose(packed.cv_results_[name], plain.cv_results_[name], atol=1e-9), name
    assert packed.best_params_ == plain.best_params_
    assert packed.n_splits_ == plain.n_splits_


def test_results_are_those_of_a_grid_search_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = texts(24)
    grid = {"rate": [1e-4, 1e-3, 3e-2], "batch": [4, 8]}
    calls = alone(monkeypatch)
    packed = PackedGridSearch(classifier(**STILL), grid, cv=2, scoring="neg_log_loss").fit(X, y)
    assert calls == [1]  # the best candidate on all rows; all others came from packed runs
    plain = GridSearchCV(classifier(**STILL), grid, cv=2, scoring="neg_log_loss").fit(X, y)
    assert calls == [1] * 14
    assert len(set(plain.cv_results_["mean_test_score"])) == 6
    for name in SCORES:
        assert np.allclose(packed.cv_results_[name], plain.cv_results_[name], atol=1e-5), name
    assert packed.best_params_ == plain.best_params_
    assert np.array_equal(packed.predict(X), plain.predict(X))
    assert (packed.cv_results_["mean_fit_time"] > 0).all()


def test_candidates_of_different_shape_and_taggers_are_packed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = sentences(16)
    prefixes = {"method": ["ptuning"], "length": [2, 3], "dropout": [0.0]}
    grid = [prefixes, {"method": ["bitfit"], "rate": [1e-3, 1e-2]}]
    calls = alone(monkeypatch)
    packed = PackedGridSearch(tagger(**STILL), grid, cv=2).fit(X, y)
    assert calls == [1]
    same_results(packed, GridSearchCV(tagger(**STILL), grid, cv=2).fit(X, y))


def test_a_splitter_that_shuffles_splits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = alone(monkeypatch)
    splitter = ShuffleSplit(2, random_state=np.random.RandomState(0))
    search = PackedGridSearch(classifier(**STILL), {"rate": [1e-3, 1e-2]}, cv=splitter, refit=False)
    search.fit(*texts(24))
    assert calls == [] and search.cv is splitter


def test_a_candidate_that_cannot_be_trained_gets_the_score_for_errors() -> None:
    X, y = texts(24)
    search = PackedGridSearch(classifier(**STILL), {"rate": [3e-2, -1.0]}, cv=2, error_score=0.0)
    with pytest.warns(FitFailedWarning, match="2 fits failed"):
        search.fit(X, y)
    assert search.cv_results_["mean_test_score"][1] == 0.0 < search.best_score_
    with pytest.raises(SettingsError, match="rate is -1"):
        clone(search).set_params(error_score="raise").fit(X, y)


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(SettingsError, match="estimator is a LogisticRegression"):
        PackedGridSearch(LogisticRegression(), {"C": [1.0]}).fit(*texts(24))
    with pytest.raises(SettingsError, match="n_jobs is 2"):
        PackedGridSearch(classifier(), {"rate": [1e-2]}, n_jobs=2).fit(*texts(24))
    assert softcue.PackedGridSearch is PackedGridSearch
