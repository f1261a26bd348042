"""The report in a real browser: nothing leaves the page, it works without scripts, by keyboard, at any width and theme."""

from __future__ import annotations

import io
import json
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from pypdf import PdfReader
from synthetic import synthetic_run
from unit.reports.examples import hostile_run, hostile_texts, oracle_report, report_of, rich_run

from vprobe import reports
from vprobe.model import GateReport, GateVerdict, RuleResult, Run
from vprobe.oracles import OracleReport

pytestmark = [pytest.mark.engine("chromium"), pytest.mark.slow]

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1440}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@dataclass
class Visit:
    """A page that was opened, what it asked for and what it complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., "contextmanager[Visit]"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium, driven by playwright."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports that the tests look at, as files."""
    directory = tmp_path_factory.mktemp("pages")
    rich = rich_run(rounds=10)
    other = msgspec.structs.replace(
        rich_run(2, rounds=10), fingerprint=msgspec.structs.replace(rich.fingerprint, kernel="6.12")
    )
    rule = RuleResult("memory.*@kvm<=15%", "memory.triad", "kvm", "kvm", 1.0, 0.9, 1.1, 0.01, GateVerdict.PASS)
    made = {
        "en": report_of(rich, gate=GateReport(GateVerdict.PASS, (rule,)), oracles=oracle_report()),
        "zh-CN": report_of(rich, language="zh-CN", oracles=oracle_report()),
        "two": report_of(rich, other),
        "hostile": report_of(hostile_run(), oracles=oracle_report(hostile_texts())),
        "empty": report_of(msgspec.structs.replace(rich, visits=(), skipped=())),
    }
    for name, report in made.items():
        (directory / f"{name}.html").write_text(reports.html(report), "utf-8")
    return {name: directory / f"{name}.html" for name in made}


@contextmanager
def visit(browser: Browser, path: Path, width: int = 1440, theme: str = "light", **options: object) -> Iterator[Visit]:
    """Open a page with the network cut off, logging what it asks for."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,
        offline=True,
        **options,  # type: ignore[arg-type]
    )
    found = Visit(context.new_page())
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("dialog", lambda dialog: (found.complaints.append(dialog.message), dialog.dismiss()))
    try:
        found.page.goto(path.as_uri())
        yield found
    finally:
        context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["en", "zh-CN", "two", "hostile", "empty"])
def test_nothing_leaves_the_page_and_nothing_complains(
    browser: Browser, pages: dict[str, Path], name: str, width: str
) -> None:
    """The only request is the file itself, the console stays empty, and the page is as wide as the screen, in both themes."""
    with visit(browser, pages[name], WIDTHS[width]) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        for theme in ("light", "dark"):
            found.page.emulate_media(color_scheme=theme)
            found.page.wait_for_timeout(150)
            assert found.requests == [pages[name].as_uri()]
            assert found.complaints == []
            assert found.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]


def test_hostile_texts_do_nothing_in_a_browser(browser: Browser, pages: dict[str, Path]) -> None:
    """No script of theirs runs, no element of theirs exists, no mark of theirs turns the writing, whatever is opened."""
    with visit(browser, pages["hostile"]) as found:
        page = found.page
        page.evaluate("document.querySelectorAll('details:not(.columns)').forEach((one) => { one.open = true; })")
        for button in page.locator("table.main .sorter").all()[:4]:
            button.click()
        for link in page.locator("table.main td a").all()[:6]:
            link.hover(force=True)
        page.wait_for_timeout(500)
        assert page.evaluate("window.broken") is None
        assert (
            page.evaluate("document.querySelectorAll('img, iframe, object, embed, base, [onload], [onerror]').length")
            == 0
        )
        assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 1
        text = page.evaluate("document.documentElement.textContent")
        assert not set(text) & {"\0", "\u202e", "\u2066", "\x1b"}
        assert "<script>window.broken=1</script>" in text
        assert found.complaints == []


def test_everything_essential_is_there_without_scripts(browser: Browser, pages: dict[str, Path]) -> None:
    """With scripts off: headline, heat map, plots, evidence and the command that gets the data; details open by hand."""
    with visit(browser, pages["en"], java_script_enabled=False) as found:
        page = found.page
        assert "costs" in page.locator("h1").inner_text()
        assert page.locator("table.main td").count() > 50
        assert page.locator(".tools").first.is_hidden()
        assert page.locator(".buttons").first.is_hidden()
        assert page.locator("[data-open]").first.is_hidden()
        assert "--extract" in page.locator("#data").inner_text()
        detail = page.locator("details.workload").first
        assert detail.locator("table").is_hidden()
        detail.locator("summary").click()
        assert detail.locator("table").is_visible()
        assert detail.locator("svg.order").first.is_visible()
        page.locator("table.main .class").first.click()
        assert page.locator(".about:popover-open").is_visible()


def test_each_cell_leads_to_its_detail(browser: Browser, pages: dict[str, Path]) -> None:
    """A click on a cell opens the workload and shows the row of that arm."""
    with visit(browser, pages["en"]) as found:
        page = found.page
        link = page.locator("table.main tbody tr:not(.suite) td:nth-child(4) a").first
        target = str(link.get_attribute("href"))
        link.click()
        assert page.locator(target).is_visible()
        assert page.locator("details.workload[open]").count() == 1


def names(page: Page) -> list[str]:
    """The workloads of the heat map that are shown, in order."""
    found: list[str] = page.evaluate(
        "Array.from(document.querySelectorAll('table.main tbody tr:not(.suite)'))"
        ".filter((row) => row.offsetParent).map((row) => row.cells[0].querySelector('a').textContent)"
    )
    return found


def test_the_heat_map_sorts_filters_and_hides_columns(browser: Browser, pages: dict[str, Path]) -> None:
    """By ratio within the suites and back; by part of a name; by verdict; columns away; all reset."""
    with visit(browser, pages["en"]) as found:
        page = found.page
        before = names(page)
        head = page.locator("table.main thead th", has_text="gvisor")
        head.locator(".sorter").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert names(page) != before
        values = page.evaluate(
            "Array.from(document.querySelectorAll('table.main tbody:last-of-type tr:not(.suite)'))"
            ".map((row) => Number(row.cells[4].dataset.v))"
        )
        assert values == sorted(values, reverse=True)
        head.locator(".sorter").click()
        assert head.get_attribute("aria-sort") == "ascending"
        page.locator(".tools [name=name]").fill("CHASE")
        assert names(page) and all("chase" in name for name in names(page))
        assert page.locator(".tools output").inner_text() == f"{len(names(page))} of {len(before)} workloads shown"
        page.locator(".tools button[type=reset]").click()
        page.wait_for_timeout(50)
        assert names(page) == before
        page.locator(".tools [name=verdict]").select_option("▼")
        assert names(page) == ["cpu.float_chain"]
        page.locator(".tools button[type=reset]").click()
        page.locator(".columns summary").click()
        page.locator(".columns input").nth(1).uncheck()
        assert (
            page.locator("table.main thead th").nth(2).is_hidden()
            or page.locator("table.main thead th").nth(1).is_hidden()
        )
        assert found.complaints == []


def test_the_keyboard_reaches_everything(browser: Browser, pages: dict[str, Path]) -> None:
    """Skip link first; arrows move in the heat map; Escape closes the tooltip; Enter follows; explanations open."""
    with visit(browser, pages["en"]) as found:
        page = found.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.locator("table.main tbody tr:not(.suite) td a").first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        place = "[document.activeElement.closest('td').cellIndex, document.activeElement.closest('tr').rowIndex]"
        assert page.evaluate(place) == [2, 3]
        assert page.locator("#tip").is_visible()
        assert "namespaces" in page.locator("#tip").inner_text()
        assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "tip"
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()
        page.keyboard.press("Enter")
        assert page.locator("details.workload[open]").count() == 1
        page.locator("table.main .class").nth(2).focus()
        page.keyboard.press("Enter")
        assert page.locator(".about:popover-open").is_visible()
        page.keyboard.press("Escape")
        assert page.locator(".about:popover-open").count() == 0


def test_the_data_comes_out_of_the_page(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """JSON is the run that went in, CSV has a line for each sample."""
    run = rich_run(rounds=10)
    with visit(browser, pages["en"], accept_downloads=True) as found:
        for kind in ("json", "csv"):
            with found.page.expect_download() as download:
                found.page.locator(f"[data-save={kind}]").click()
            download.value.save_as(tmp_path / f"run.{kind}")
            assert download.value.suggested_filename == f"run-0.{kind}"
    assert msgspec.json.decode((tmp_path / "run.json").read_bytes(), type=Run) == run
    lines = (tmp_path / "run.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(one.values) for one_visit in run.visits for one in one_visit.samples.values())
    assert lines[0].startswith("workload,arm,boot,round,value")


@pytest.mark.parametrize(("theme", "width"), [("light", "phone"), ("dark", "desktop")])
@pytest.mark.parametrize("name", ["en", "zh-CN", "two"])
def test_axe_finds_no_violation(browser: Browser, pages: dict[str, Path], name: str, theme: str, width: str) -> None:
    """WCAG 2.2 A and AA, with everything open: colours depend on the theme, sizes of targets on the width."""
    with visit(browser, pages[name], WIDTHS[width], theme, bypass_csp=True) as found:
        found.page.evaluate("document.querySelectorAll('details.fold').forEach((one) => { one.open = true; })")
        found.page.evaluate("document.querySelectorAll('details.workload').forEach((one, i) => { one.open = i < 3; })")
        options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
        result = Axe().run(found.page, options=options)
    violations = [
        (one["id"], [node["html"][:150] for node in one["nodes"][:3]]) for one in result.response["violations"]
    ]
    assert violations == []


@pytest.mark.parametrize("chart", reports.CHARTS)
def test_a_chart_is_drawn_without_asking_for_anything(browser: Browser, tmp_path: Path, chart: str) -> None:
    """Each chart opens as a picture of its own: one request, no complaint, and every text lies within the drawing."""
    path = tmp_path / f"{chart}.svg"
    path.write_text(reports.CHARTS[chart](report_of(rich_run(rounds=6))), "utf-8")
    with visit(browser, path) as found:
        assert found.requests == [path.as_uri()]
        assert found.complaints == []
        outside = found.page.evaluate(
            "(() => { const all = document.documentElement.getBoundingClientRect();"
            " return Array.from(document.querySelectorAll('text')).filter((one) => {"
            " const box = one.getBoundingClientRect();"
            " return box.left < all.left - 1 || box.right > all.right + 1 || box.bottom > all.bottom + 1; })"
            ".map((one) => one.textContent); })()"
        )
        assert outside == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_is_the_readers(browser: Browser, pages: dict[str, Path], theme: str) -> None:
    """Dark ground for who reads dark, light for who reads light."""
    with visit(browser, pages["en"], theme=theme) as found:
        colour = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in colour[4:-1].split(",")) / 3
        assert (brightness < 60) if theme == "dark" else (brightness > 200)


def test_it_prints(browser: Browser, pages: dict[str, Path]) -> None:
    """A PDF has headline, heat map and evidence; controls stay off the paper."""
    with visit(browser, pages["en"]) as found:
        reader = PdfReader(io.BytesIO(found.page.pdf(format="A4")))
        text = " ".join(page.extract_text() for page in reader.pages)
    words = " ".join(unicodedata.normalize("NFKC", text).split())  # a font may set "ff" as one glyph
    assert 3 <= len(reader.pages) <= 40
    for expected in ("costs", "memory.triad", "Evidence", "Method", "differs from bare"):
        assert expected in words
    assert "Save as JSON" not in words


def test_paper_is_always_light(browser: Browser, pages: dict[str, Path]) -> None:
    """Who reads dark prints dark ink on white paper all the same."""
    with visit(browser, pages["en"], theme="dark") as found:
        look = "[getComputedStyle(document.documentElement).getPropertyValue('--paper'), getComputedStyle(document.body).color]"
        assert found.page.evaluate(look)[0] != "#ffffff"
        found.page.emulate_media(media="print", color_scheme="dark")
        assert found.page.evaluate(look) == ["#ffffff", "rgb(20, 24, 31)"]


def test_the_first_screen_paints_at_once(browser: Browser, tmp_path: Path) -> None:
    """15 arms by 60 workloads by 30 boots: the first paint of a loaded browser is under half a second (best of five)."""
    arms = ("bare", "bare-aa", *(f"env{number:02}" for number in range(13)))
    workloads = tuple(f"suite{number // 12}.work_{number:02}" for number in range(60))
    run = synthetic_run(1, boots=30, rounds=6, arms=arms, workloads=workloads, blocks=False)
    path = tmp_path / "big.html"
    path.write_text(reports.html(report_of(run)), "utf-8")
    paints = []
    for _ in range(5):
        with visit(browser, path) as found:
            paints.append(
                found.page.evaluate(
                    "new Promise((done) => { const look = () => {"
                    " const found = performance.getEntriesByName('first-contentful-paint')[0];"
                    " found ? done(found.startTime) : setTimeout(look, 10); }; look(); })"
                )
            )
        time.sleep(0.1)
    assert min(paints) < 500, paints


def test_a_page_made_again_from_its_own_data_is_the_same(pages: dict[str, Path]) -> None:
    """The report can be rebuilt from the run, and the table of oracles, that it carries."""
    page = pages["zh-CN"].read_text("utf-8")
    (data,) = reports.extract(page)
    assert json.loads(data)["schema"] == "vprobe.run/1"
    agreements = msgspec.json.decode(reports.extract_oracles(page) or b"", type=OracleReport)
    run = msgspec.json.decode(data, type=Run)
    assert reports.html(report_of(run, language="zh-CN", oracles=agreements)) == page
