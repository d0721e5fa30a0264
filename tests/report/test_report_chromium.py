"""The page in a real browser: sorting, filtering, the wipe, both colour schemes, and not one request or console message."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest
from chromium_page import CHROMIUM, ChromiumPage
from test_report_page import HOSTILE, failed, good, picture

from editscore.report import ReportRow, write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")

OVERALLS = [5.0, 9.5, 0.5, 7.0, 10.0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromiumPage]:
    path = tmp_path_factory.mktemp("report") / "page.html"
    rows = [
        ReportRow(
            good(f"s{i}", value), f"make it red{i}", picture(i, 90, 60), picture(i + 50, 90, 60), task="even" if i % 2 == 0 else "odd"
        )
        for i, value in enumerate(OVERALLS)
    ]
    rows.insert(2, ReportRow(failed("bad", warnings=("out_of_domain",)), HOSTILE, picture(1), None, task="odd"))
    write_report(path, rows, title=HOSTILE, provenance={"model": HOSTILE})
    with ChromiumPage() as browser:
        browser.open(path)
        title = browser.run("document.title")
        assert title.startswith("</script><script>")
        yield browser
        assert browser.run("document.title") == title
        assert browser.requests == [path.resolve().as_uri()] and browser.complaints == []


def choose(page: ChromiumPage, control: str, value: str) -> list[str]:
    page.run(f"(() => {{ const c = document.getElementById('{control}'); c.value = '{value}'; c.dispatchEvent(new Event('change')); }})()")
    return shown(page)


def shown(page: ChromiumPage) -> list[str]:
    found = page.run("[...document.querySelectorAll('article')].filter(c => c.checkVisibility()).map(c => c.dataset.id)")
    return list(found)


def settle(page: ChromiumPage) -> None:
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 60)))")


def test_sorting(page: ChromiumPage) -> None:
    assert choose(page, "sort", "overall") == ["s4", "s1", "s3", "s0", "s2", "bad"]
    page.run("document.getElementById('direction').click()")
    assert shown(page) == ["s2", "s0", "s3", "s1", "s4", "bad"]  # without a number: last, both ways
    assert choose(page, "sort", "id") == ["bad", "s0", "s1", "s2", "s3", "s4"]
    assert choose(page, "sort", "place") == ["s0", "s1", "bad", "s2", "s3", "s4"]


def test_filtering(page: ChromiumPage) -> None:
    assert choose(page, "task", "odd") == ["s1", "bad", "s3"]
    assert choose(page, "status", "failed") == ["bad"]
    assert page.run("document.getElementById('shown').textContent") == "1 of 6"
    assert choose(page, "task", "even") == [] and page.run("!document.getElementById('nothing').hidden")
    choose(page, "task", "")
    assert choose(page, "status", "warned") == ["bad"]
    assert choose(page, "status", "ok") == ["s0", "s1", "s2", "s3", "s4"]
    choose(page, "status", "")
    page.run("(() => { const f = document.getElementById('find'); f.value = 'MAKE red3'; f.dispatchEvent(new Event('input')); })()")
    assert shown(page) == ["s3"]
    page.run("(() => { const f = document.getElementById('find'); f.value = ''; f.dispatchEvent(new Event('input')); })()")
    assert len(shown(page)) == 6


def test_the_wipe_moves_by_keyboard_and_shows_both_images(page: ChromiumPage) -> None:
    page.run("document.querySelector('[data-id=s0]').scrollIntoView()")
    settle(page)
    page.run("document.querySelector('[data-id=s0] input').focus()")
    for _ in range(5):
        page.press("ArrowRight")
    assert page.run("document.querySelector('[data-id=s0] .compare').style.getPropertyValue('--x')") == "55%"
    sizes = page.run("[...document.querySelectorAll('[data-id=s0] img')].map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[90, 60], [90, 60]]
    box = "document.querySelector('[data-id=s0] .compare').getBoundingClientRect()"
    x, y, width, height = (page.run(f"{box}.{side}") for side in ("x", "y", "width", "height"))
    screen = np.asarray(PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    expected = [np.frombuffer(picture(seed, 90, 60).pixels, np.uint8).reshape(60, 90, 3).astype(int) for seed in (0, 50)]
    for share, image in ((0.2, expected[0]), (0.8, expected[1])):  # left of the handle the source, right of it the edited image
        column, row = int(x + width * share), int(y + height * 0.3)
        patch = screen[row - 12 : row + 12, column - 12 : column + 12].mean((0, 1))
        near = image[int(60 * 0.3) - 3 : int(60 * 0.3) + 4, int(90 * share) - 3 : int(90 * share) + 4].mean((0, 1))
        other = expected[0] if image is expected[1] else expected[1]
        far = other[int(60 * 0.3) - 3 : int(60 * 0.3) + 4, int(90 * share) - 3 : int(90 * share) + 4].mean((0, 1))
        assert np.abs(patch - near).sum() < np.abs(patch - far).sum()


def test_everything_can_be_reached_by_tab(page: ChromiumPage) -> None:
    page.run("document.activeElement.blur()")
    seen = set()
    for _ in range(25):
        page.press("Tab")
        seen.add(page.run("document.activeElement.id || document.activeElement.tagName"))
    assert {"theme", "sort", "direction", "status", "task", "find", "INPUT", "SUMMARY"} <= seen


def luminance(colour: str) -> float:
    red, green, blue = (int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_readable(page: ChromiumPage, scheme: str) -> None:
    page.emulate(1200, 900, scheme)
    background = luminance(page.run("getComputedStyle(document.querySelector('.card')).backgroundColor"))
    assert (background < 0.1) == (scheme == "dark")
    for selector in ("h2", ".bars dt", ".side", ".overall b", ".chip.id", "figcaption"):
        ink = luminance(page.run(f"getComputedStyle(document.querySelector('.card {selector}')).color"))
        light, dark = max(ink, background), min(ink, background)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, selector  # WCAG AA
    page.emulate(1200, 900)


def test_the_toggle_overrides_the_system(page: ChromiumPage) -> None:
    schemes = []
    for _ in range(3):
        page.run("document.getElementById('theme').click()")
        schemes.append(page.run("getComputedStyle(document.documentElement).colorScheme"))
    assert schemes == ["light", "dark", "light"]  # light, dark, and the system's again


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_no_width_scrolls_sideways(page: ChromiumPage, width: int) -> None:
    page.emulate(width, 900)
    settle(page)
    assert page.run("document.documentElement.scrollWidth") <= width
    boxes = page.run("[...document.querySelectorAll('article')].map(c => c.getBoundingClientRect().right)")
    assert max(boxes) <= width
    page.emulate(1200, 900)
