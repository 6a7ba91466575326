"""What all tests share: one thread for each parallel worker, the folder of the shared benchmark
sets, and the options that choose a method.
"""

import os
from pathlib import Path

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("softcue")
    group.addoption(
        "--plugin", action="append", default=[], metavar="FILE", help="a plugin whose methods are tested too"
    )
    group.addoption("--method", metavar="NAME", help="leave out what is tested of other methods")


def pytest_configure(config: pytest.Config) -> None:
    """Plugins are loaded before any test asks the registry."""
    method, files = config.getoption("--method"), config.getoption("--plugin")
    if method is None and not files:
        return
    from softcue import load_plugin
    from softcue.cues import Cue

    for file in files:
        load_plugin(file)
    if method not in (None, *Cue.registry):
        known = ", ".join(sorted(Cue.registry))
        raise pytest.UsageError(f"--method {method} is unknown; expected one of {known}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --method, what is the same for all methods stays."""
    method = config.getoption("--method")
    if method is not None:
        asked = [getattr(item, "callspec", None) for item in items]
        own = [one is None or one.params.get("method", method) == method for one in asked]
        config.hook.pytest_deselected(items=[item for item, ours in zip(items, own, strict=True) if not ours])
        items[:] = [item for item, ours in zip(items, own, strict=True) if ours]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the benchmark sets: SOFTCUE_DATA, or shared/data beside the repository."""
    named = os.environ.get("SOFTCUE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no benchmark sets at {folder}; set SOFTCUE_DATA to the folder that holds them")
    return folder
