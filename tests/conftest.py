"""What all tests share: one thread for each parallel worker, and the folder of the shared benchmark sets."""

import os
from pathlib import Path

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the benchmark sets: SOFTCUE_DATA, or shared/data beside the repository."""
    named = os.environ.get("SOFTCUE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no benchmark sets at {folder}; set SOFTCUE_DATA to the folder that holds them")
    return folder
