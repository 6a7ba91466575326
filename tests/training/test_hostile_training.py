"""`softcue train` on 200 generated bad files: exit code 2 and a message with file and line, or
success; never a traceback.
"""

import random
import re
from pathlib import Path

import pytest

from tests.cli.shell import Shell, make_place, make_shell, train  # noqa: F401  (fixtures)
from tests.readers.test_readers import folder
from tests.readers.test_readers_hostile import damaged


@pytest.mark.slow
def test_two_hundred_hostile_files_train_or_are_refused_by_file_and_line(
    shell: Shell, tmp_path: Path
) -> None:
    draw = random.Random(11)
    trained = refused = 0
    for number in range(200):
        suffix = ("jsonl", "csv", "tsv", "conll")[number % 4]
        place = folder(tmp_path / str(number), **{f"train__{suffix}": damaged(draw, suffix)})
        target = place if draw.random() < 0.5 else place / f"train.{suffix}"
        result = shell(*train("--limit", "16", data=str(target), out=place / "out"))
        assert "Traceback" not in result.err
        if result.code == 0:
            trained += 1
            assert (place / "out" / "adapter_config.json").is_file()
            continue
        refused += 1
        assert result.code == 2
        assert not (place / "out").exists()
        # what is wrong with a line names it; what is wrong with the data as a whole (too few rows) names the
        # data
        assert re.search(rf"train\.{suffix}:\d+: ", result.err) or re.search(
            r"softcue: .*(train|rows|labels)", result.err
        ), result.err
    assert trained >= 10 and refused >= 50
