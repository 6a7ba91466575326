"""The page on several labels shows what the files of results hold."""

from scripts.multilabel_page import PAGE, block


def test_the_page_shows_what_its_files_hold() -> None:
    assert block() in PAGE.read_text(encoding="utf-8"), "python -m scripts.multilabel_page"
