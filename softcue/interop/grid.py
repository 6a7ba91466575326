"""A grid search over estimators whose fits train together, in packed runs."""

import time
from collections.abc import Sequence
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv

from softcue.adapter import Adapter
from softcue.base import Base
from softcue.errors import DivergedError, RequestError, SettingsError
from softcue.interop.estimators import TextEstimator, job_key, trained_ahead
from softcue.training.job import Job
from softcue.training.jobs import train_jobs

Splits = Sequence[tuple[Any, Any]]  # row numbers that train, and those that are scored


class PackedGridSearch(GridSearchCV):
    """scikit-learn's GridSearchCV, with all candidates and folds trained in packed runs.

    Arguments and fitted attributes are GridSearchCV's; the estimator is one of softcue's, and n_jobs stays
    None. With dropout off the scores are those of GridSearchCV; with it they agree in distribution, because
    the runs of a group draw their masks from one generator.
    """

    cv: Any  # as GridSearchCV's

    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> "PackedGridSearch":
        """Search, and train the best candidate on all rows.

        Each fit's time in cv_results_ has an equal share of the packed runs' time. Raises SettingsError where
        the fits cannot be packed.
        """
        if not isinstance(self.estimator, TextEstimator):
            name = type(self.estimator).__name__
            raise SettingsError(
                f"estimator is a {name}; expected a SoftcueClassifier or a SoftcueTagger: search others with "
                "GridSearchCV"
            )
        if self.n_jobs not in (None, 1):
            raise SettingsError(
                f"n_jobs is {self.n_jobs}; expected None: the fits are packed in this process"
            )
        self.estimator.check_answers(y)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(splitter.split(X, y, groups))
        began = time.perf_counter()
        adapters = self._train(X, y, splits)
        seconds = time.perf_counter() - began
        given, self.cv = self.cv, splits  # a splitter that shuffles would split otherwise a second time
        try:
            with trained_ahead(adapters):
                super().fit(X, y)
        finally:
            self.cv = given
        self.cv_results_["mean_fit_time"] += seconds / (len(splits) * len(ParameterGrid(self.param_grid)))
        return self

    def _train(self, X: Any, y: Any, splits: Splits) -> dict[str, Adapter]:
        """Train an adapter for every candidate and fold; those that cannot be are left to GridSearchCV."""
        requests, answers = self.estimator.requests_of(X), list(y)
        data = [
            self.estimator.data_of([requests[i] for i in train], [answers[i] for i in train])
            for train, _ in splits
        ]
        wanted: dict[int, tuple[Base, dict[str, Job]]] = {}  # by the base's id
        for candidate in ParameterGrid(self.param_grid):
            estimator = clone(self.estimator).set_params(**candidate)
            base = estimator.opened_base()
            _, jobs = wanted.setdefault(id(base), (base, {}))
            for own in data:
                try:
                    job = estimator.job_of(own)
                    jobs[job_key(job, base)] = job
                except RequestError:  # told by error_score, as GridSearchCV does
                    continue
        adapters: dict[str, Adapter] = {}
        for base, jobs in wanted.values():
            keys = list(jobs)

            def note(number: int, adapter: Adapter, keys: Sequence[str] = keys) -> None:
                adapters[keys[number]] = adapter

            try:
                train_jobs(list(jobs.values()), base, finished=note)
            except DivergedError:  # the others are trained; of those error_score tells
                continue
        return adapters
