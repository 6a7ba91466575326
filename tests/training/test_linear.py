"""A fitted head is at the least of its loss, by the encoder's outputs, each computed once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from softcue.adapter import Adapter
from softcue.answering.evaluation import evaluate_seat
from softcue.answering.seating import seat_adapters
from softcue.answering.served import reading_of
from softcue.api import train
from softcue.batch import Example
from softcue.errors import RequestError, SettingsError
from softcue.heads import Head
from softcue.kinds import KINDS
from softcue.model import Model
from softcue.readers.items import Item, make_items
from softcue.readers.records import Data
from softcue.studies.auto import choose_rate
from softcue.studies.sweep import sweep
from softcue.text.tokens import Encoded
from softcue.training import linear
from softcue.training.checkpoint import Checkpoints
from softcue.training.full import train_full
from softcue.training.job import Job, prepare
from softcue.training.jobs import train_jobs
from softcue.training.linear import Features, features, fit_head, minimise, outline, scale, unscale
from tests.tiny_base import tiny_base, tiny_data
from tests.training.training_cases import logits, same

NAMES = sorted(KINDS)


def probe(data: Data, seed: int = 0) -> Adapter:
    return train_jobs([Job(data, "probe", seed=seed)], tiny_base())[0]


def made(values: torch.Tensor, targets: list[Any], words: int = 0, choices: int = 1) -> Features:
    """Features of examples without text: one for each item, or so many words or choices."""
    one = Encoded(Example((0,), (0,), (0,), (0,) * words), (), 0, 0)
    items = [Item((one,) * choices, target) for target in targets]
    return Features(items, values, outline(items, torch.device("cpu")))


def head_of(kind: str, width: int, classes: int) -> Head:
    return Head(kind, width, [classes], "cls").eval()


def random_values(count: int, width: int = 12) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(3))


def test_labels_are_scikit_learns_logistic_regression() -> None:
    x = random_values(200)
    y = (x[:, :3] + 0.5 * random_values(200, 15)[:, 12:]).argmax(1)
    head = head_of("classify", 12, 3)
    minimise(head, made(x, [(int(t),) for t in y]), 10.0)
    rival = LogisticRegression(C=0.1, tol=1e-8, max_iter=5_000).fit(x.numpy(), y.numpy())
    chances = (x @ head.weight[0].T + head.bias[0]).softmax(-1)
    np.testing.assert_allclose(chances.detach().numpy(), rival.predict_proba(x.numpy()), atol=2e-3)


def test_scores_are_scikit_learns_ridge_with_half_the_penalty() -> None:
    x = random_values(200)
    y = x[:, 0] - 2 * x[:, 1] + 0.3 * x[:, 5].square()
    head = head_of("score", 12, 1)
    minimise(head, made(x, [(float(t),) for t in y]), 20.0)
    rival = Ridge(alpha=10.0).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(head.weight[0, 0].detach().numpy(), rival.coef_, atol=2e-3)
    np.testing.assert_allclose(head.bias[0].detach().numpy(), [rival.intercept_], atol=2e-3)


def descend(x: torch.Tensor, loss: Any, classes: int, penalty: float) -> torch.Tensor:
    """Weights by plain gradient descent on the written-out loss, in float64."""
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    for _ in range(4_000):
        total = (loss(x.double() @ weight.T + bias) + penalty / 2 * weight.square().sum()) / len(x)
        for part, slope in zip((weight, bias), torch.autograd.grad(total, (weight, bias)), strict=True):
            part.data -= 0.5 * slope
    return weight.detach().float()


def test_choices_are_a_logit_within_each_question() -> None:
    x, right = random_values(3 * 40), [i % 3 for i in range(40)]
    x[torch.arange(40) * 3 + torch.tensor(right), 0] += 1.0
    head = head_of("choice", 12, 1)
    minimise(head, made(x, [tuple(int(i == r) for i in range(3)) for r in right], choices=3), 5.0)

    def loss(z: torch.Tensor) -> torch.Tensor:
        return -z.view(40, 3).log_softmax(1)[range(40), right].sum()

    torch.testing.assert_close(head.weight[0].detach(), descend(x, loss, 1, 5.0), atol=2e-3, rtol=0)


def test_tags_are_a_logit_for_each_word_and_words_without_a_label_are_not_learnt() -> None:
    x = random_values(4 * 30)
    tags = x[:, :3].argmax(1)
    tags[::7] = -100
    head = head_of("tag", 12, 3)
    minimise(head, made(x, [(own.tolist(),) for own in tags.view(30, 4)], words=4), 5.0)

    def loss(z: torch.Tensor) -> torch.Tensor:
        known = tags >= 0
        return -z.log_softmax(1)[known, tags[known]].sum()

    torch.testing.assert_close(head.weight[0].detach(), descend(x, loss, 3, 5.0), atol=2e-3, rtol=0)


def test_a_head_reads_features_as_they_are_after_the_fit() -> None:
    x = 7 * random_values(50) + 3
    mean, size = scale(x)
    head = head_of("classify", 12, 3)
    before = head.logits((x - mean) / size, made(x, [(0,)] * 50).batch)
    unscale(head, mean, size)
    torch.testing.assert_close(head.logits(x, made(x, [(0,)] * 50).batch), before, atol=1e-4, rtol=1e-4)
    assert float(((x - mean) / size).square().mean()) == pytest.approx(1)


@pytest.mark.parametrize("kind", NAMES)
def test_the_saved_adapter_answers_as_the_fit_and_scores_what_it_says(kind: str, tmp_path: Path) -> None:
    data, base = tiny_data(kind), tiny_base()
    prepared = prepare(Job(data, "probe"), base)
    model = Model.single(base.backbone.encoder, prepared.cue, prepared.head)
    fit = fit_head(prepared, model)
    loaded = Adapter.load(probe(data).save(tmp_path / "probe"))
    reading = reading_of(loaded)
    for rows, score in ((data.splits["dev"], fit.score), (data.splits["test"], loaded.scores[data.metric])):
        served = seat_adapters(base, [loaded])
        found = evaluate_seat(served, 0, make_items(rows, base.text, reading), rows, reading, data)
        assert found[data.metric] == pytest.approx(score)
    assert loaded.training == {"penalty": fit.penalty} and loaded.scores["selection"] == fit.score
    torch.testing.assert_close(loaded.head["weight"], prepared.head.weight[0].detach())


@pytest.mark.parametrize("kind", NAMES)
def test_features_are_those_that_the_head_reads(kind: str) -> None:
    base, prepared = tiny_base(), prepare(Job(tiny_data(kind), "probe"), tiny_base())
    model = Model.single(base.backbone.encoder, prepared.cue, prepared.head).eval()
    found = features(model, prepared.items[:9])
    parts = []
    for item in prepared.items[:9]:
        for one in item.examples:
            batch = model.pack([one], [0])
            parts.append(model(batch).parts[0].logits.reshape(model.head(0).rows(batch)[0], -1))
    got = model.head(0).logits(found.values, found.batch)
    torch.testing.assert_close(got.reshape(len(found.values), -1), torch.cat(parts), atol=1e-5, rtol=1e-4)


def test_the_encoder_runs_once_over_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data, base, seen = tiny_data(), tiny_base(), list[int]()
    whole = type(base.backbone.encoder).forward

    def counting(self: Any, batch: Any, *args: Any, **named: Any) -> Any:
        seen.append(len(batch))
        return whole(self, batch, *args, **named)

    monkeypatch.setattr(type(base.backbone.encoder), "forward", counting)
    probe(data)
    assert sum(seen) == sum(map(len, data.splits.values()))


def test_the_seed_changes_nothing_but_the_rows() -> None:
    data = tiny_data()
    torch.manual_seed(1)
    once = probe(data)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert same(once, probe(data)) and same(once, probe(data, seed=9))
    assert torch.equal(state, torch.get_rng_state())


def test_many_rows_set_a_tenth_aside_and_learn_it_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softcue.training.job.SMALL", 20)
    fitted: list[int] = []
    plain = minimise

    def counting(head: Head, rows: Features, penalty: float) -> float:
        fitted.append(len(rows.items))
        return plain(head, rows, penalty)

    monkeypatch.setattr(linear, "minimise", counting)
    data = tiny_data()
    whole = len(data.splits["train"])
    adapter = probe(data)
    assert adapter.measured == "selected on a tenth of train (seed 0), reported on test"
    assert fitted[-1] == whole and fitted[0] == whole - max(1, whole // 10)
    fitted.clear()
    train_jobs([Job(data, "probe", from_train=True)], tiny_base())
    assert whole not in fitted  # a comparison's methods all learn from the same rows


@pytest.mark.parametrize("settings", [{"rate": 0.1}, {"epochs": 2, "batch": 4}, {"penalty": 1.0}])
def test_settings_that_a_fit_does_not_read_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    names = ", ".join(sorted(settings))
    with pytest.raises(
        SettingsError, match=f"probe has no setting {names}; its own settings are none"
    ) as told:
        train(tiny_data(), backbone=tiny_base(), method="probe", settings=settings)
    assert "\n" not in str(told.value)
    grid = {name: [value] for name, value in settings.items()}
    with pytest.raises(SettingsError, match="none of probe has a setting"):
        sweep([tiny_data()], ["probe"], tmp_path, backbone=tiny_base(), grid=grid)
    if "penalty" not in settings:
        with pytest.raises(SettingsError, match=f"not trained in steps, and does not use {names}"):
            train_jobs([Job(tiny_data(), "probe", training=settings)], tiny_base())


def test_a_search_of_its_rate_is_refused() -> None:
    with pytest.raises(RequestError, match="probe is fitted and has no rate to search"):
        choose_rate(Job(tiny_data(), "probe"), tiny_base(), 1.0, lambda prepared, run: None, print)


def test_a_sweep_fits_it_once_beside_the_rates_of_others(tmp_path: Path) -> None:
    found = sweep(
        [tiny_data(train=20)],
        ["probe", "pasta"],
        tmp_path,
        backbone=tiny_base(),
        grid={"rate": [1e-2, 2e-2]},
        settings={"epochs": 1},
    ).to_json()
    assert [(run["method"], run["rate"]) for run in found["runs"]] == [
        ("probe", None),
        ("pasta", 1e-2),
        ("pasta", 2e-2),
    ]


def test_full_fine_tuning_still_takes_steps() -> None:
    steps: list[int] = []
    data = tiny_data(train=8, dev=4, test=4)
    job = Job(data, "full", training={"epochs": 2, "batch": 4, "head_dropout": 0.5})
    done = train_full(job, tiny_base(), lambda prepared, run: steps.append(run.step))
    assert steps == [1, 2, 3, 4] and done.adapter.training["head_dropout"] == 0.5
    assert done.adapter.measured == "selected on dev, reported on test"


def test_a_fit_that_is_finished_is_kept_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, place = tiny_data(train=12, dev=4, test=4), tmp_path / "run"
    jobs = [Job(data, "probe"), Job(data, "pasta", training={"epochs": 1, "batch": 4})]
    once = train_jobs(jobs, tiny_base(), checkpoints=Checkpoints(place, 1))
    monkeypatch.setattr("softcue.training.jobs.fit_adapter", None)
    again = train_jobs(jobs, tiny_base(), checkpoints=Checkpoints(place, 1, resume=True))
    assert all(same(a, b) for a, b in zip(once, again, strict=True))


def test_one_row_one_class_and_labels_that_train_lacks_are_fitted() -> None:
    data = tiny_data()
    first, *others = data.splits["train"]
    for rows in ([first], [one for one in others if one.label == first.label]):
        alone = replace(data, splits={**data.splits, "train": rows})
        answers = logits(probe(alone), data)
        assert all(bool(torch.isfinite(answer).all()) for answer in answers)
        assert {data.labels[int(answer.argmax())] for answer in answers} == {first.label}


def test_features_beyond_the_limit_are_refused_before_the_encoder_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "MOST_BYTES", 4 * 32 * 5)
    monkeypatch.setattr(type(tiny_base().backbone.encoder), "forward", None)
    with pytest.raises(RequestError, match="vectors of width 32; expected at most 5: "):
        probe(tiny_data())
