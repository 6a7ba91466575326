"""A warning for a run that learns nothing: giving all texts the same answer would have no higher loss."""

from collections.abc import Callable

from softcue.training.emphasis import emphasises
from softcue.training.job import Prepared
from softcue.training.jobs import Report
from softcue.training.run import TrainingRun

EARLY = 0.1  # share of all steps after which the first check is made
FEWEST = 5  # the least number of steps for the first check; fewer say too little
NEAR = 0.98  # a loss above this share of the loss of the same answer for all texts counts as not lower


def noticing(say: Callable[[str], None], report: Report) -> Report:
    """Return a report for one run that warns if the run learns nothing, and also calls `report`.

    It checks twice, after a tenth of the steps and after the last step. It compares the loss with that of the
    same answer for all texts (the frequencies of the labels, or the mean score).
    """
    begun: list[float] = []  # the loss summed over the steps up to `start`

    def notice(prepared: Prepared, run: TrainingRun) -> None:
        report(prepared, run)
        # A fitted head has the least loss already. A loss with class weights cannot be compared.
        if prepared.fitted or emphasises(prepared):
            return
        early = round(EARLY * run.total) if EARLY * run.total >= FEWEST else run.total
        start = min(max(run.warmup, early // 2), early - 1)
        if run.step == start and not run.history:
            begun.append(float(run.loss))
        due = run.step == early or run.done
        if not due:
            return
        if run.history:
            loss = run.history[-1]["loss"]
        elif begun:
            loss = (float(run.loss) - begun[0]) / (early - start)
        else:  # the run was resumed after `start`, and has not been evaluated since
            return
        blind = prepared.head.blind_loss([item.targets for item in prepared.items])
        if loss >= NEAR * blind:
            say(_told(run, loss, blind))

    return notice


def _told(run: TrainingRun, loss: float, blind: float) -> str:
    level = f"the loss is {loss:.3f}, and {blind:.3f} with the same answer for all texts"
    if not run.done:
        return (
            f"warning: step {run.step:,} of {run.total:,}: nothing is learnt yet ({level}); if it stays "
            "so, use auto (--auto MINUTES)"
        )
    return (
        f"warning: nothing was learnt ({level}); search the learning rate with auto (--auto MINUTES), "
        "or set it (--set rate=..)"
    )
