"""GLUE (Wang et al., 2019): single sentences and pairs, with the official metrics.

The test splits, whose labels are hidden, are left out.
"""

from softcue.readers import Hub
from softcue.tasks.base import Task, pair, single

_SPLITS = {"train": "train", "dev": "validation"}


def _hub(config: str, dev: str = "validation") -> Hub:
    return Hub("nyu-mll/glue", config, splits={**_SPLITS, "dev": dev})


GLUE = (
    Task(
        name="glue/cola",
        kind="classify",
        metrics=("matthews",),
        template=single("sentence"),
        folders=("cola",),
        hub=_hub("cola"),
        rows={"train": 8_551, "dev": 1_043},
    ),
    Task(
        name="glue/sst2",
        kind="classify",
        metrics=("accuracy",),
        template=single("sentence"),
        folders=("sst2",),
        hub=_hub("sst2"),
        rows={"train": 67_349, "dev": 872},
    ),
    Task(
        name="glue/mrpc",
        kind="classify",
        metrics=("accuracy", "f1"),
        template=pair("sentence1", "sentence2"),
        folders=("mrpc",),
        hub=_hub("mrpc"),
        positive="equivalent",
        rows={"train": 3_668, "dev": 408},
    ),
    Task(
        name="glue/stsb",
        kind="score",
        metrics=("pearson", "spearman"),
        template=pair("sentence1", "sentence2"),
        folders=("stsb",),
        hub=_hub("stsb"),
        rows={"train": 5_749, "dev": 1_500},
    ),
    Task(
        name="glue/qqp",
        kind="classify",
        metrics=("f1", "accuracy"),
        template=pair("question1", "question2"),
        folders=("qqp",),
        hub=_hub("qqp"),
        positive="duplicate",
        rows={"train": 363_846, "dev": 40_430},
        subsets={"qqp": "23,496 rows of the official train file, split anew; not the official dev"},
    ),
    Task(
        name="glue/mnli",
        kind="classify",
        metrics=("accuracy",),
        template=pair("premise", "hypothesis"),
        folders=("mnli",),
        hub=_hub("mnli", dev="validation_matched"),
        rows={"train": 392_702, "dev": 9_815},
    ),
    Task(
        name="glue/mnli_mm",  # MNLI's training rows with the mismatched dev split
        kind="classify",
        metrics=("accuracy",),
        template=pair("premise", "hypothesis"),
        folders=("mnli_mm",),
        hub=_hub("mnli", dev="validation_mismatched"),
        rows={"train": 392_702, "dev": 9_832},
    ),
    Task(
        name="glue/qnli",
        kind="classify",
        metrics=("accuracy",),
        template=pair("question", "sentence"),
        folders=("qnli",),
        hub=_hub("qnli"),
        rows={"train": 104_743, "dev": 5_463},
        subsets={"qnli": "the official dev set only, split anew; not comparable with published scores"},
    ),
    Task(
        name="glue/rte",
        kind="classify",
        metrics=("accuracy",),
        template=pair("sentence1", "sentence2"),
        folders=("rte",),
        hub=_hub("rte"),
        rows={"train": 2_490, "dev": 277},
    ),
    Task(
        name="glue/wnli",
        kind="classify",
        metrics=("accuracy",),
        template=pair("sentence1", "sentence2"),
        folders=("wnli",),
        hub=_hub("wnli"),
        rows={"train": 635, "dev": 71},
    ),
)
