"""The site is built whole or not at all, and works from disk, from a server, without a network, in both themes."""

import contextlib
import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

import sslnb.book.pages
from sslnb import data
from sslnb.book import site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]

# --- building ---------------------------------------------------------------------------------------------------------


def test_the_lock_file_holds_no_address_and_pins_what_is_asked_for() -> None:
    lock, wanted = (json.loads((ROOT / name).read_text()) for name in ("package-lock.json", "package.json"))
    assert "http" not in json.dumps(lock) and "resolved" not in json.dumps(lock)
    assert all(one.get("integrity") for name, one in lock["packages"].items() if name)
    for name, version in wanted["dependencies"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version


def test_a_site_is_complete(miniature: Path) -> None:
    html = miniature / "_build" / "html"
    assert {"index.html", "book/intro.html", "book/chapter.html"} <= {str(p.relative_to(html)) for p in _html(html)}
    assert [path.name for path in (miniature / "_build").glob("site-*")] == []


def test_an_unchanged_book_is_not_built_again(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = site.build(book)
    before = index.stat().st_mtime_ns
    monkeypatch.setattr(site, "_render", lambda *_: pytest.fail("built again"))
    assert site.build(book) == index and index.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["input", "output", "lost page", "force"])
def test_any_change_builds_again(miniature: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    class Built(Exception):
        pass

    def render(*_: object) -> None:
        raise Built

    monkeypatch.setattr(site, "_render", render)
    page = miniature / ("book/intro.md" if change == "input" else "_build/html/book/intro.html")
    before = page.read_bytes()
    try:
        if change == "lost page":
            page.unlink()
        elif change != "force":
            page.write_bytes(before + b"\nmore")
        with pytest.raises(Built):
            site.build(miniature, force=change == "force")
    finally:
        page.write_bytes(before)


def test_a_changed_text_reaches_the_site(book: Path) -> None:
    site.build(book)
    (book / "book" / "intro.md").write_text("# Entirely different\n")
    site.build(book)
    assert "Entirely different" in (book / "_build/html/book/intro.html").read_text()


def test_a_warning_fails_the_build_and_keeps_the_previous_site(book: Path) -> None:
    index = site.build(book)
    before = index.with_name("book").joinpath("intro.html").read_text()
    (book / "book" / "intro.md").write_text("# A\n\n{doc}`nowhere`\n")
    for _ in range(2):  # the second time must not take the first one's leftovers for a success
        with pytest.raises(site.SiteError, match=r"(?s)intro\.md.*unknown document.*nowhere"):
            site.build(book)
    assert index.with_name("book").joinpath("intro.html").read_text() == before


def test_a_failed_cell_is_named(book: Path, executed: Callable) -> None:
    _rewrite(book, executed(("1 + 1", {}), ("1 / 0", {})))
    with pytest.raises(site.SiteError, match=r"chapter\.ipynb: code cell 2 failed with ZeroDivisionError"):
        site.build(book)
    assert not (book / "_build" / "html").exists()


def test_a_cell_that_never_ran_is_named(book: Path, executed: Callable) -> None:
    notebook = executed(("1 + 1", {}), ("2 + 2", {}))
    notebook.cells[2].execution_count = None
    _rewrite(book, notebook)
    with pytest.raises(site.SiteError, match=r"chapter\.ipynb.*code cell 2"):
        site.build(book)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"cells": [1]}'])
def test_a_broken_notebook_is_named(book: Path, content: str) -> None:
    (book / "book" / "chapter.ipynb").write_text(content)
    with pytest.raises(site.SiteError, match=r"chapter\.ipynb: expected an executed notebook"):
        site.build(book)


def test_a_missing_page_is_named(book: Path) -> None:
    (book / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n- file: book/_executed/quick/gone\n")
    with pytest.raises(site.SiteError, match=r"book/_executed/quick/gone\.ipynb, which `sslnb book` executes"):
        site.build(book)


def test_a_failed_installation_keeps_the_scripts(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.provide_assets(book)
    before = sorted((book / "book" / "_assets").rglob("*"))
    (book / "package-lock.json").write_text("{}")
    monkeypatch.setattr(site, "_npm", lambda: ["false"])
    with pytest.raises(site.SiteError, match="npm ci: expected status 0, got 1"):
        site.provide_assets(book)
    assert sorted((book / "book" / "_assets").rglob("*")) == before


def test_scripts_are_fetched_once(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.provide_assets(book)
    monkeypatch.setattr(site, "_install", lambda *_: pytest.fail("fetched again"))
    assert (site.provide_assets(book) / "vega" / "vega.min.js").is_file()


# --- what the book's own pages show -----------------------------------------------------------------------------------


def test_only_what_is_at_hand_is_shown_and_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sslnb.data.sources._download", lambda *_: pytest.fail("downloaded"))
    (tmp_path / "dtd").mkdir()  # there, and empty
    (tmp_path / "cifar10.npz").write_bytes(b"not an archive")
    samples = sslnb.book.pages.known_samples(4, root=tmp_path)
    assert list(samples) == ["digit-scenes"] and len(samples["digit-scenes"]) == 4
    assert "`cifar10`" in sslnb.book.pages.absent_sets(samples).data


def test_masks_divide_a_picture_in_two() -> None:
    scenes = data.load("digit-scenes", "test", limit=10)
    drawn = [image.get_array() for image in sslnb.book.pages.mask_rows(scenes, count=10).axes[0].images]
    whole, core, spurious = (np.stack(drawn[10 * row : 10 * row + 10]) for row in range(3))
    mask = scenes.masks.numpy()
    assert (core[mask] == whole[mask]).all() and (spurious[~mask] == whole[~mask]).all()
    assert (core[~mask] >= whole[~mask]).all() and (core[~mask] != whole[~mask]).any()


def test_a_set_without_masks_is_refused() -> None:
    scenes = data.load("digit-scenes", "test", limit=10)
    with pytest.raises(ValueError, match="image_set: expected a set with masks"):
        sslnb.book.pages.mask_rows(dataclasses.replace(scenes, masks=None))


def test_execution_times_are_those_of_finished_notebooks(tmp_path: Path) -> None:
    done = {"duration": 125.0, "end_time": "2030-01-02T03:04:05.6"}
    for name, run in {"done": done, "running": {"duration": None}, "other.failed": done}.items():
        path = tmp_path / "book/_executed/quick" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cells": [{"cell_type": "code"}], "metadata": {"papermill": run}}))
    table = sslnb.book.pages.execution_table(tmp_path).data
    assert "| `quick/done` | 1 | 2 min 5 s | 2030-01-02 03:04 |" in table
    assert "running" not in table and "failed" not in table


def test_benchmarks_may_be_missing_or_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert "does not exist" in sslnb.book.pages.benchmark_table(path).data
    path.write_text(json.dumps([{"name": "margins", "unit": "ms", "ours": 1.23456, "met": False}, {"name": "a|b"}]))
    table = sslnb.book.pages.benchmark_table(path).data
    assert "| margins | ms | 1.23 | – | – | – | **no** |  |" in table and "a\\|b" in table


def test_a_missed_target_is_listed_with_what_bounds_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert "No recorded target" in sslnb.book.pages.benchmark_misses(path).data
    rows = [{"name": "views", "target": "under 5 %", "met": False, "limit": "crops alone take 3 %"}]
    path.write_text(json.dumps([*rows, {"name": "margins", "met": True}, {"name": "speed", "met": False}]))
    listed = sslnb.book.pages.benchmark_misses(path).data.splitlines()
    assert listed == ["- views (under 5 %): crops alone take 3 %.", "- speed (–): the reason was not measured."]


def test_growth_is_drawn_on_logarithmic_axes_or_missed_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "growth.json"
    missing = sslnb.book.pages.growth_figure(path)
    assert "not recorded" in missing.axes[0].texts[0].get_text()
    case = {"name": "margins", "varied": "n", "sizes": [10, 100, 1000], "seconds": [0.01, 0.1, 1.0]}
    path.write_text(json.dumps([case | {"exponent": 1.0, "low": 0.9, "high": 1.1, "expected": 1}] * 4))
    figure = sslnb.book.pages.growth_figure(path)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 4 and all(ax.get_xscale() == ax.get_yscale() == "log" for ax in shown)
    points, line = shown[0].lines
    assert line.get_ydata() == pytest.approx(points.get_ydata())  # a power of 1 goes through these points


def test_the_shipped_encoders_are_listed_with_their_hours(tmp_path: Path) -> None:
    listed = sslnb.book.pages.encoders_table().data
    manifest = json.loads((ROOT / "book/encoders/small/pool.json").read_text())["entries"]
    assert all(f"| `{name}` |" in listed for name in manifest)
    hours = sum(entry["seconds"] for name, entry in manifest.items() if "@" not in name) / 3600
    assert f"{hours:.1f} hours" in sslnb.book.pages.energy().data
    pilots = json.loads((ROOT / "book/encoders/pilots.json").read_text())
    table = sslnb.book.pages.pilots_table().lines
    assert table.count("\n") == len(pilots) + 1 and "stopped being finite" in table
    chosen = {pilot["objective"] for pilot in pilots if pilot["chosen"]}
    assert chosen == {pilot["objective"] for pilot in pilots}  # every objective was trained with one that was tried
    assert "No pilots" in sslnb.book.pages.pilots_table(tmp_path / "none.json").data
    assert "No encoders" in sslnb.book.pages.encoders_table(tmp_path).data


# --- pages as files ---------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The links, addresses of parts, images and figures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def _html(pages: Path) -> list[Path]:
    return sorted(path for path in pages.rglob("*.html") if "_static" not in path.parts)


def _rewrite(book: Path, notebook: dict) -> None:
    (book / "book" / "chapter.ipynb").write_text(json.dumps(notebook))


def test_internal_links_lead_somewhere(pages: Path) -> None:
    parsed = {path.resolve(): _Page(path) for path in _html(pages)}
    broken = []
    for path, page in parsed.items():
        for link in (urlsplit(link) for link in page.links if not link.startswith("data:")):
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            missing = not target.is_file() or (
                link.fragment and target in parsed and link.fragment not in parsed[target].ids
            )
            if not link.scheme and not link.netloc and missing and link.geturl() != "#":
                broken.append((path.name, link.geturl()))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(pages: Path) -> None:
    loads = re.compile(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+rel="stylesheet"[^>]+href="https?://')
    assert [path.name for path in _html(pages) if loads.search(path.read_text())] == []


def test_no_path_of_the_machine_is_published(pages: Path) -> None:
    own = {f"{folder}/" for folder in (ROOT, Path.home(), pages.parents[1])} - {"//"}
    texts = [path for path in pages.rglob("*") if path.suffix in (".html", ".ipynb", ".md", ".txt", ".json")]
    texts += [pages / "searchindex.js"]
    found = [(str(path.relative_to(pages)), name) for path in texts for name in own if name in path.read_text()]
    assert found == []


# --- pages in a browser -----------------------------------------------------------------------------------------------

SETTLED = """async () => {
  for (const explorer of document.querySelectorAll(".explorer")) {
    explorer.scrollIntoView();
    while (!("drawn" in explorer.dataset)) await new Promise((go) => setTimeout(go, 50));
  }
  scrollTo(0, 0);
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  await new Promise((go) => setTimeout(go, 300));
}"""
CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  const rgb = (color) => {
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
  const light = (color) => [...rgb(color)].slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!/^rgba.*, 0\\)$|transparent/.test(color)) return color; } return "white"; };
  const texts = "h1, p, td, th, figcaption, label, select";
  return [...document.querySelectorAll("main :is(" + texts + ")")].filter((e) => e.innerText?.trim()).map((e) => {
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    return [e.innerText.slice(0, 40), (a + 0.05) / (b + 0.05)]; }).filter(([, ratio]) => ratio < 4.5);
}"""


WIDE_BOXES = """() => [...document.querySelectorAll(".bd-content :is(figure, .pst-scrollable-table-container)")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => [getComputedStyle(box, "::before").content, box.tabIndex])"""
LOOKS = (("light", 1400), ("dark", 390), ("dark", 1400), ("light", 390))
RESIZED = 500  # ms: the theme gives what now scrolls a tab stop after 300


class _Visit:
    """A page that is open and settled, with everything that went wrong on it."""

    def __init__(self, browser: "Browser", address: str, theme: str = "light", width: int = 1280) -> None:
        self.problems: list[str] = []
        home = f"{urlsplit(address).scheme}://{urlsplit(address).netloc}"
        self.page = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900}).new_page()
        self.page.on("request", lambda one: self._own(one.url, home))
        self.page.on("requestfailed", lambda one: self.problems.append(f"failed: {one.url}"))
        self.page.on("response", lambda one: one.status >= 400 and self.problems.append(f"{one.status}: {one.url}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("console", lambda line: line.type == "error" and self.problems.append(f"console: {line.text}"))
        self.page.goto(address, wait_until="load")
        self.page.evaluate(SETTLED)

    def _own(self, url: str, home: str) -> None:
        if not url.startswith((home, "data:", "blob:")):
            self.problems.append(f"outside: {url}")

    def __enter__(self) -> "_Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.context.close()


def _addresses(pages: Path, served: str | None = None) -> list[str]:
    """Of all pages but the one that only leads to the first."""
    base = f"file://{pages}" if served is None else served
    return [f"{base}/{path.relative_to(pages)}" for path in _html(pages) if path != pages / "index.html"]


@pytest.fixture(scope="module")
def visits(browser: "Browser", pages: Path) -> Iterator[list[_Visit]]:
    """Every page, opened from disk in the light theme."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_Visit(browser, address)) for address in _addresses(pages)]


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "theme"), [("file", "light"), ("file", "dark"), ("http", "dark")])
def test_every_page_works_offline(browser: "Browser", pages: Path, served: str, scheme: str, theme: str) -> None:
    for address in _addresses(pages, served if scheme == "http" else None):
        with _Visit(browser, address, theme) as visit:
            assert visit.problems == [], address
            assert visit.page.evaluate("document.documentElement.dataset.theme") == theme, address
            assert visit.page.evaluate(CONTRAST) == [], f"too little contrast: {address}"


@pytest.mark.browser
def test_the_index_leads_to_the_first_page(browser: "Browser", pages: Path) -> None:
    page = browser.new_page()
    page.goto(f"file://{pages}/index.html")
    page.wait_for_url("**/intro.html")
    page.close()


@pytest.mark.browser
def test_every_image_is_there_and_described(visits: list[_Visit]) -> None:
    for visit in visits:
        bad = "[...document.images].filter((i) => !i.alt.trim() || i.alt === 'null' || !i.naturalWidth).length"
        assert visit.page.evaluate(bad) == 0, visit.page.url


@pytest.mark.browser
def test_every_figure_has_its_picture(visits: list[_Visit]) -> None:
    for visit in visits:
        empty = "[...document.querySelectorAll('figure')].filter((f) => !f.querySelector('img, svg')).length"
        assert visit.page.evaluate(empty) == 0, visit.page.url


@pytest.mark.browser
def test_mathematics_is_typeset(visits: list[_Visit]) -> None:
    for visit in visits:
        left = "[...document.querySelectorAll('.math')].filter((e) => !e.querySelector('.katex')).length"
        assert visit.page.evaluate(left) == 0, visit.page.url
        assert visit.page.locator(".katex-error").count() == 0, visit.page.url


@pytest.mark.browser
def test_every_control_of_an_explorer_changes_its_chart(visits: list[_Visit]) -> None:
    """By keyboard: menus and sliders are native ones."""
    moved = 0
    for visit in visits:
        for explorer in visit.page.locator(".explorer").all():
            chart = explorer.locator(".explorer-chart")
            for control in explorer.locator("select, input").all():
                label = control.evaluate("(e) => e.closest('label').innerText")
                before = chart.inner_html()
                last = control.evaluate("(e) => e.max ? e.value === e.max : e.selectedIndex === e.length - 1")
                control.focus()
                control.press("ArrowUp" if last and control.evaluate("(e) => !e.max") else "ArrowLeft" if last else
                              "ArrowRight" if control.evaluate("(e) => !!e.max") else "ArrowDown")  # fmt: skip
                for _ in range(50):  # a busy machine draws late
                    visit.page.wait_for_timeout(100)
                    if chart.inner_html() != before:
                        break
                assert chart.inner_html() != before, f"{visit.page.url}: {label}"
                assert label.strip(), visit.page.url
                moved += 1
        assert visit.problems == [], visit.page.url
    assert moved > 0


@pytest.mark.browser
def test_charts_follow_the_theme_and_fit_a_telephone(browser: "Browser", miniature: Path) -> None:
    with _Visit(browser, f"file://{miniature}/_build/html/book/chapter.html", "dark") as visit:
        ink = "getComputedStyle(document.querySelector('.explorer-chart svg text')).fill"
        dark = visit.page.evaluate(ink)
        visit.page.evaluate("document.documentElement.dataset.theme = 'light'")
        visit.page.wait_for_function(f"({ink}) !== '{dark}'", timeout=10_000)
        visit.page.set_viewport_size({"width": 390, "height": 800})
        assert visit.page.evaluate("document.querySelector('.explorer-chart svg').getBoundingClientRect().right") <= 390


@pytest.mark.browser
def test_without_scripts_an_explorer_is_a_picture_with_its_data(browser: "Browser", miniature: Path) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"file://{miniature}/_build/html/book/chapter.html")
    picture = page.locator(".explorer-chart img")
    assert picture.get_attribute("alt") == "A point whose place is chosen." and picture.bounding_box()["height"] > 30
    with page.expect_download() as saved:
        page.locator(".explorer-data a").click()
    assert saved.value.suggested_filename == "bars.csv"
    assert saved.value.path().read_text().splitlines()[:2] == ["kind,height,length", "0,0,0"]
    page.context.close()


@pytest.mark.browser
def test_no_page_breaks_a_serious_rule_of_accessibility(browser: "Browser", pages: Path) -> None:
    """In both themes, on a wide window and on a telephone; reruns, which have the chapters' parts, in two of these."""
    axe, found = Axe(), {}
    for address in _addresses(pages):
        with _Visit(browser, address) as visit:
            for theme, width in LOOKS[:2] if "/quick/" in address else LOOKS:
                visit.page.emulate_media(color_scheme=theme)
                visit.page.set_viewport_size({"width": width, "height": 900})
                visit.page.wait_for_timeout(RESIZED)
                assert visit.page.evaluate("document.documentElement.dataset.theme") == theme
                for one in axe.run(visit.page).response["violations"]:
                    if one["impact"] in ("serious", "critical"):
                        where = (Path(address).name, theme, width, one["nodes"][0]["html"][:120])
                        found.setdefault(one["id"], []).append(where)
    assert found == {}


@pytest.mark.browser
def test_nothing_is_cut_off_on_a_telephone(browser: "Browser", pages: Path) -> None:
    """The page itself never scrolls sideways; a wide table or figure does, says so, and has the focus."""
    for address in _addresses(pages):
        with _Visit(browser, address, width=390) as visit:
            wide = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
            assert visit.page.evaluate(wide) <= 0, address
            boxes = visit.page.evaluate(WIDE_BOXES)
            assert all("sideways" in said and focus == 0 for said, focus in boxes), address


@pytest.mark.browser
def test_a_wide_figure_says_that_it_scrolls_on_a_telephone_alone(browser: "Browser", miniature: Path) -> None:
    address = f"file://{miniature}/_build/html/book/chapter.html"
    with _Visit(browser, address, width=390) as narrow, _Visit(browser, address, width=1400) as broad:
        assert narrow.page.evaluate(WIDE_BOXES) and not broad.page.evaluate(WIDE_BOXES)


@pytest.mark.browser
def test_a_long_table_shows_eight_rows_until_asked_and_is_there_as_csv(browser: "Browser", miniature: Path) -> None:
    with _Visit(browser, f"file://{miniature}/_build/html/book/chapter.html") as visit:
        rows, box = visit.page.locator("table.table tbody tr:visible"), visit.page.get_by_label("all 12 rows")
        assert rows.count() == 8
        box.focus()
        visit.page.keyboard.press("Space")
        assert rows.count() == 12
        assert "Table 1 Twelve squares." in " ".join(visit.page.locator("caption").inner_text().split())
        text = unquote(visit.page.get_by_role("link", name="CSV", exact=True).get_attribute("href").partition(",")[2])
        assert list(csv.reader(io.StringIO(text)))[:2] == [["n", "a, b"], ["0", "0^2"]]


@pytest.mark.browser
def test_a_figure_is_sharp_and_its_numbers_are_there_as_csv(browser: "Browser", miniature: Path) -> None:
    with _Visit(browser, f"file://{miniature}/_build/html/book/chapter.html") as visit:
        assert visit.page.locator("figure img").first.get_attribute("src").endswith(".svg")
        link = visit.page.get_by_role("link", name="CSV of the figure")
        path = Path(unquote(urlsplit(link.evaluate("link => link.href")).path))
        assert path.read_text() == "panel,x,y\n1,0,2\n1,1,4\n"


@pytest.mark.browser
def test_a_dark_page_has_dark_figures(browser: "Browser", miniature: Path) -> None:
    with _Visit(browser, f"file://{miniature}/_build/html/book/chapter.html", "dark") as visit:
        picture = visit.page.locator("figure img").first.screenshot()
        corner = Image.open(io.BytesIO(picture)).convert("L").getpixel((3, 3))
        assert corner < 64


@pytest.mark.browser
def test_a_dark_page_prints_white_figures(browser: "Browser", miniature: Path) -> None:
    with _Visit(browser, f"file://{miniature}/_build/html/book/chapter.html", "dark") as visit:
        visit.page.emulate_media(media="print")
        picture = visit.page.locator("figure img").first.screenshot()
        printed = Image.open(io.BytesIO(picture)).convert("L")
        assert printed.getpixel((3, 3)) > 250 and printed.getextrema()[0] < 10  # letters are black


@pytest.mark.browser
def test_the_search_finds_words_in_their_chapter_first(browser: "Browser") -> None:
    pages = ROOT / "_build" / "html"
    if not (pages / "search.html").is_file():
        pytest.skip("no _build/html: run `make book` first")
    for word, chapter in {"margin": "separability", "checkerboard": "cka", "PGD": "separability"}.items():
        page, errors = browser.new_page(), []
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        page.on("console", lambda said, errors=errors: said.type == "error" and errors.append(said.text))
        page.goto(f"file://{pages}/search.html?q={word}")
        page.wait_for_selector("#search-results li a")
        page.wait_for_function("document.querySelector('#search-results p').textContent.includes('finished')")
        first = page.locator("#search-results li a").first.get_attribute("href")
        assert f"/published/{chapter}.html" in first, word
        assert not errors, word
        page.close()


@pytest.mark.browser
def test_pages_are_light(browser: "Browser", pages: Path, served: str) -> None:
    """By what comes over http."""
    for address in _addresses(pages, served):
        seen: list[int] = []
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.on("response", lambda one, seen=seen: seen.append(len(one.body()) if one.ok else 0))
        page.goto(address, wait_until="load")
        page.evaluate(SETTLED)
        assert sum(seen) < 3e6 and len(seen) <= 45, f"{address}: {sum(seen) / 1e6:.2f} MB, {len(seen)} requests"
        page.context.close()
