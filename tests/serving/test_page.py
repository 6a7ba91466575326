"""The page at / in a real browser, against a small server that stands in for softcue's."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.serving.page_stand import HOSTILE, TEXT, TOKEN, Stand, Trouble, standing

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CHOICES = ["wait", "answer at once"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; Debian has it as the package chromium")
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield started
        started.close()


@pytest.fixture
def stand() -> Iterator[Stand]:
    with standing() as served:
        yield served


class Visit:
    """A page in a browser of its own, with what it complained of and whom it asked."""

    def __init__(self, browser: Any, stand: Stand, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.page, self.stand = self.context.new_page(), stand
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def open(self, text: str = "", adapters: tuple[str, ...] = (), **more: Any) -> Any:
        parts = [("adapter", name) for name in adapters] + [("text", text)] * bool(text)
        parts += [("choice", choice) for choice in more.get("choices", ())]
        self.page.goto(f"{self.stand.address}/" + (f"#{urlencode(parts)}" if parts else ""))
        return self.page

    def ask(self) -> None:
        self.page.keyboard.press("Control+Enter")

    def card(self, name: str) -> Any:
        """The card of an adapter, once it is there."""
        found = self.page.locator(".card", has=self.page.locator("h3", has_text=name))
        found.locator("> :nth-child(2):not(.blank)").first.wait_for()
        return found


@pytest.fixture
def visit(browser: Any, stand: Stand) -> Iterator[Visit]:
    made = Visit(browser, stand, viewport={"width": 1280, "height": 800})
    yield made
    made.context.close()


def test_adapters_are_found_chosen_and_asked_by_keyboard_alone(visit: Visit) -> None:
    page, keys = visit.open(), visit.page.keyboard
    page.locator("#count", has_text="37 adapters").wait_for()
    for _ in range(2):  # past the link to the HTTP interface
        keys.press("Tab")
    assert page.evaluate("document.activeElement.id") == "search"
    keys.type("opi")
    page.locator("[role=option].active", has_text="topic").wait_for()
    active = page.locator("#search").get_attribute("aria-activedescendant")
    assert "topic" in page.locator(f"#{active}").inner_text()
    keys.press("Enter")
    keys.type("ticket-0")
    page.locator("[role=option].active", has_text="ticket-00").wait_for()
    keys.press("ArrowDown")
    keys.press("Enter")
    assert page.locator("#chosen li > span").all_inner_texts() == ["topic", "ticket-01"]
    playwright.expect(page.locator("#found > li")).to_have_count(20)
    keys.press("Escape")
    assert page.locator("#found").is_hidden()
    keys.press("Backspace")
    assert page.locator("#chosen li > span").all_inner_texts() == ["topic"]
    keys.press("Tab")  # the button that removes it stands before the field
    page.locator("#text").focus()
    keys.type("A new engine")
    visit.ask()
    assert visit.card("topic@3").locator(".best").inner_text() == "science & technology"
    assert visit.stand.asked == [{"adapters": ["topic"], "inputs": "A new engine"}]
    assert "1 answer in" in page.locator("#status").inner_text()
    assert not visit.complaints
    assert visit.hosts == {urlsplit(visit.stand.address).netloc}


def test_the_arrows_go_on_to_further_pages_of_adapters(visit: Visit) -> None:
    page = visit.open()
    page.locator("#search").click()
    playwright.expect(page.locator("#found > li")).to_have_count(20)
    for _ in range(21):
        page.keyboard.press("ArrowDown")
    playwright.expect(page.locator("#found > li")).to_have_count(37)


def test_a_version_is_chosen_by_its_whole_name(visit: Visit) -> None:
    page = visit.open("A text")
    page.locator("#search").type("spam@prod")
    page.locator("[role=option].active", has_text="spam@prod").click()
    visit.ask()
    visit.card("spam@3")
    assert visit.stand.asked[0]["adapters"] == ["spam@prod"]


def test_labels_stand_sorted_with_bars_and_all_of_them_on_demand(visit: Visit) -> None:
    visit.open("A text", ("topic",))
    visit.ask()
    card = visit.card("topic@3")
    names = card.locator(".bars .name").all_inner_texts()
    assert names[:3] == ["science & technology", "topic 000", "history"] and len(names) == 8
    assert card.locator(".percent").first.inner_text() == "47.0%"
    widths = card.locator(".fill").evaluate_all(
        "bars => bars.map(bar => bar.offsetWidth / bar.parentElement.offsetWidth)"
    )
    assert widths[0] == pytest.approx(0.47, abs=0.01) and widths == sorted(widths, reverse=True)
    card.get_by_role("button", name="Show all 153").click()
    assert card.locator(".bars li").count() == 153
    assert not visit.complaints


def test_entities_stand_where_python_counts_them(visit: Visit) -> None:
    visit.open(TEXT, ("ner",))  # begins with letters of two UTF-16 units each
    visit.ask()
    card = visit.card("ner@3")
    assert card.locator("mark").all_inner_texts() == [
        "Ada Lovelace PER",
        "Charles Babbage PER",
        "London LOC",
        "Analytical Engine MISC",
        "Monday DATE",
    ]
    shown = card.locator(".marked").evaluate(
        "node => { const copy = node.cloneNode(true);"
        " copy.querySelectorAll('.tag').forEach(tag => { tag.previousSibling.remove(); tag.remove(); });"
        " return copy.textContent; }"
    )
    assert shown == TEXT
    colours = card.locator("mark").evaluate_all("marks => marks.map(mark => mark.className)")
    assert colours[0] == colours[1] and len(set(colours)) == 4


def test_four_kinds_stand_side_by_side_each_asked_with_what_it_reads(visit: Visit) -> None:
    page = visit.open(TEXT, ("spam", "rate", "next-step", "ner"), choices=CHOICES)
    page.locator("#choices").wait_for()
    visit.ask()
    assert visit.card("next-step@3").locator(".best").inner_text() == "answer at once"
    assert visit.card("rate@3").locator(".value").inner_text() == "3.718"
    assert page.locator(".card h3").all_inner_texts() == ["ner@3", "spam@3", "rate@3", "next-step@3"]
    assert {"adapters": ["spam", "rate", "ner"], "inputs": TEXT} in visit.stand.asked
    assert {"adapters": ["next-step"], "inputs": {"text": TEXT, "choices": CHOICES}} in visit.stand.asked
    assert not visit.complaints


def test_a_second_text_goes_to_those_that_compare_and_the_others_read_the_first(visit: Visit) -> None:
    page = visit.open("It rains", ("pairs", "spam"))
    visit.ask()
    assert "compares two texts" in visit.card("pairs").inner_text()
    page.locator("#pair").fill("It is wet")
    visit.ask()
    assert visit.card("pairs@3").locator(".best").inner_text() == "entailment"
    assert "answered for the first alone" in visit.card("spam@3").inner_text()


def test_a_hostile_label_is_shown_as_text(visit: Visit) -> None:
    page = visit.open(f"{HOSTILE} Ada Lovelace", ("hostile", "ner"))
    visit.ask()
    assert visit.card("hostile@3").locator(".best").inner_text() == HOSTILE
    assert HOSTILE in visit.card("ner@3").locator(".marked").inner_text()
    assert page.locator("img").count() == 0
    assert not visit.complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_of_360_pixels_scrolls_in_one_direction_alone(
    browser: Any, stand: Stand, scheme: str
) -> None:
    visit = Visit(browser, stand, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    stand.token = TOKEN
    page = visit.open("word" * 60 + TEXT, ("spam", "topic", "ner", "next-step", "hostile"), choices=CHOICES)
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#choices").wait_for()
    page.locator("#send").click()
    visit.card("next-step@3")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    lefts = page.locator(".card").evaluate_all(
        "cards => cards.map(card => card.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) == 1
    visit.context.close()


def test_the_request_is_copied_as_curl_without_the_token(visit: Visit) -> None:
    visit.stand.token = TOKEN
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.open("It's a text; $HOME", ("spam",))
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#token").wait_for(state="hidden")
    page.locator("#text").focus()
    visit.ask()
    visit.card("spam@3")
    page.get_by_role("button", name="Copy as curl").click()
    page.get_by_role("button", name="Copied").wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert TOKEN not in command
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:2] == ["curl", f"{visit.stand.address}/predict"]
    assert "Authorization: Bearer $TOKEN" in words
    assert json.loads(words[words.index("-d") + 1]) == visit.stand.asked[-1]
    assert visit.stand.asked[-1] == {"adapters": ["spam"], "inputs": "It's a text; $HOME"}


def test_the_address_restores_adapters_and_texts(visit: Visit) -> None:
    page = visit.open("Übung & more: 100%\n🙂", ("spam", "next-step@3"), choices=CHOICES)
    page.locator("#choices").wait_for()
    visit.ask()
    visit.card("spam@3")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    page.locator("#choices").wait_for()
    assert page.locator("#chosen li > span").all_inner_texts() == ["spam", "next-step@3"]
    assert page.locator("#text").input_value() == "Übung & more: 100%\n🙂"
    assert page.locator("#choices").input_value().split("\n") == CHOICES


def test_what_is_missing_is_said_beside_its_field(visit: Visit) -> None:
    page = visit.open()
    page.locator("#send").click()
    assert page.locator("#search-problem").inner_text() == "Choose at least one adapter."
    assert page.evaluate("document.activeElement.id") == "search"
    assert page.locator("#text-problem").inner_text() == "Type a text."
    assert not visit.stand.asked and not visit.complaints


def test_one_adapter_that_fails_leaves_the_others_their_answers(visit: Visit) -> None:
    page = visit.open("A text", ("spam", "gone"))
    page.locator("#search-problem", has_text="Not on this server: gone.").wait_for()
    visit.ask()
    assert visit.card("spam@3").locator(".best").inner_text() == "ham"
    assert "No adapter gone here" in visit.card("gone").inner_text()
    assert "1 answer, 1 failed" in page.locator("#status").inner_text()


@pytest.mark.parametrize(
    ("trouble", "place", "words"),
    [
        (Trouble(429, "full", ("Retry-After", "3")), "#failure", "Try again in 3 seconds."),
        (Trouble(503, "closing"), "#failure", "shutting down"),
        (Trouble(413, "At most 2 MB."), "#text-problem", "more than the server takes at once. At most 2 MB."),
        (Trouble(504, "took over 30 s"), ".card", "Took over 30 s"),
        (Trouble(500, "the adapter is damaged"), ".card", "The adapter is damaged"),
    ],
    ids=["busy", "closing", "too much", "late", "damaged"],
)
def test_a_refusal_is_told_in_plain_words(visit: Visit, trouble: Trouble, place: str, words: str) -> None:
    page = visit.open("A text", ("spam",))
    visit.stand.trouble = trouble
    visit.ask()
    page.locator(place, has_text=words).wait_for()
    visit.stand.trouble = None
    visit.ask()
    assert visit.card("spam@3").locator(".best").inner_text() == "ham"
    assert page.locator("#failure").is_hidden()


def test_a_server_that_is_gone_is_said_to_be(visit: Visit) -> None:
    page = visit.open("A text", ("spam",))
    page.locator("#count", has_text="37").wait_for()
    visit.context.set_offline(True)
    visit.ask()
    page.locator("#failure", has_text="The server did not answer.").wait_for()


def test_a_token_is_asked_for_and_stays_in_the_tab(visit: Visit) -> None:
    visit.stand.token = TOKEN
    page = visit.open()
    page.locator("#token").fill("wrong")
    page.keyboard.press("Enter")
    page.locator("#token-problem", has_text="does not know this token").wait_for()
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#count", has_text="37 adapters").wait_for()
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    page.get_by_role("button", name="Forget the token").click()
    page.locator("#token").wait_for()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_server_without_adapters_says_so(visit: Visit) -> None:
    visit.stand.kinds = {}
    page = visit.open()
    page.locator("#empty", has_text="No adapters yet").wait_for()
    page.locator("#search").type("zebra")
    page.locator("#search-note", has_text="zebra").wait_for()
    assert not visit.complaints
