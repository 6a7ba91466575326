"""The pages on the bank, on fan-out and on serving show what the benchmarks' files hold."""

import json

import pytest

from scripts.serving_pages import PAGES, RESULTS, ROOT, block


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_its_file_holds(name: str) -> None:
    page = ROOT / "docs" / f"{name.replace('_', '-')}.md"
    result = json.loads((ROOT / RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert block(name, result) in page.read_text(encoding="utf-8"), "python -m scripts.serving_pages"
