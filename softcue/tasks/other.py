"""Text classification sets outside the suites."""

from softcue.readers import Hub
from softcue.tasks.base import Task, single

OTHER = (
    Task(
        name="agnews",
        kind="classify",
        metrics=("accuracy",),
        template=single("text"),
        folders=("agnews",),
        hub=Hub("fancyzhx/ag_news", splits={"train": "train", "test": "test"}),
        rows={"train": 120_000, "test": 7_600},
        subsets={"agnews": "the official test set only, split anew; not comparable with published scores"},
    ),
)
