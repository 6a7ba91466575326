"""Says of a run that it learns nothing: its loss stays where one answer for all texts would put it."""

from collections.abc import Callable

from softcue.training.job import Prepared
from softcue.training.jobs import Report
from softcue.training.run import TrainingRun

EARLY = 0.1  # share of all steps after which a run that learns has begun to
FEWEST = 5  # steps of that tenth from which something can be said
NEAR = 0.98  # of the loss of one answer for all texts: what lies above counts as no better


def noticing(say: Callable[[str], None], report: Report) -> Report:
    """Return a report for one run that notices when nothing is learnt, and calls `report` as well.

    It looks after a tenth of the steps, and at the end.

    One answer for all texts (the frequencies of the labels, the mean score) has a loss that no text has to be
    read for.
    """
    begun: list[float] = []  # the loss summed over the steps up to `start`

    def notice(prepared: Prepared, run: TrainingRun) -> None:
        report(prepared, run)
        early = round(EARLY * run.total) if EARLY * run.total >= FEWEST else run.total
        start = min(max(run.warmup, early // 2), early - 1)
        if run.step == start and not run.history:
            begun.append(float(run.loss))
        # neither: it was resumed in between
        if not (run.step == early or run.done) or not (run.history or begun):
            return
        loss = run.history[-1]["loss"] if run.history else (float(run.loss) - begun[0]) / (early - start)
        blind = prepared.head.blind_loss([item.targets for item in prepared.items])
        if loss >= NEAR * blind:
            say(_told(run, loss, blind))

    return notice


def _told(run: TrainingRun, loss: float, blind: float) -> str:
    level = f"the loss is {loss:.3f}, and {blind:.3f} for one answer to every text"
    if not run.done:
        return (
            f"warning: step {run.step:,} of {run.total:,}: nothing is learnt yet ({level}); if it stays "
            "so, use auto (--auto MINUTES)"
        )
    return (
        f"warning: nothing was learnt ({level}); search the learning rate with auto (--auto MINUTES), "
        "or set it (--set rate=..)"
    )
