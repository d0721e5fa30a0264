"""The page: every sample is on it, no text gets out of its element, and equal images are stored once."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editscore.report import ReportRow, render_report, typical_pass, write_report
from editscore.types import Image, PassScore, Score, Spread, Status

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "' onmouseover='alert(1)' \" autofocus onfocus=alert(1) {{7*7}} <!-- ]]> &lt;b&gt; \u202etxt.exe \x00\x1b[31m"
)


def picture(seed: int, width: int = 40, height: int = 30) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(width=width, height=height, pixels=pixels.tobytes())


def good(name: str, overall: float, **fields: Any) -> Score:
    values = dict.fromkeys(("prompt_following", "consistency", "naturalness", "artifacts", "sc", "pq"), overall)
    one = PassScore(index=0, status=Status.OK, sc_raw=(20.0, 21.0), pq_raw=(22.0, 23.0), sc_reasoning="it is red", overall=overall)
    return Score(**{"id": name, "status": Status.OK, "overall": overall, **values, "passes": (one, one), "num_passes": 2, **fields})


def failed(name: str, **fields: Any) -> Score:
    return Score(**{"id": name, "status": Status.INVALID_INPUT, "message": "m.jsonl:2: edited: b.png: No such file", **fields})


class Reader(HTMLParser):
    """The texts and tags that a browser sees."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_every_sample_and_its_failure_are_on_the_page(tmp_path: Path) -> None:
    rows = [
        ReportRow(good("first", 7.25, warnings=("out_of_domain",)), "make it red", picture(1), picture(2), task="color_alter"),
        ReportRow(failed("second"), "remove the lamp", picture(1), None, task="subject-remove"),
    ]
    write_report(tmp_path / "page.html", iter(rows), title="Two", provenance={"model": "abc123", "adapter": ""})
    reader = Reader((tmp_path / "page.html").read_bytes())
    words = " ".join(reader.words)
    for wanted in (
        "make it red",
        "remove the lamp",
        "7.2",
        "m.jsonl:2: edited: b.png: No such file",
        "out_of_domain",
        "abc123",
        "it is red",
    ):
        assert wanted in words
    cards = [attributes for tag, attributes in reader.tags if tag == "article"]
    assert [(c["data-status"], c["data-task"], c["data-overall"]) for c in cards] == [
        ("ok", "color_alter", "7.250000"),
        ("invalid_input", "subject-remove", ""),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from([HOSTILE, "'\"<>&", "\ud800"])), min_size=6, max_size=6))
def test_no_text_becomes_markup(texts: list[str]) -> None:
    def page(words: list[str]) -> Reader:
        name, instruction, reason, message, task, note = words
        passes = (PassScore(index=0, status=Status.PARSE_FAILED, sc_reasoning=reason, message=message),)
        score = Score(id=name, status=Status.ERROR, message=message, passes=passes, warnings=(reason,))
        rows = [ReportRow(score, instruction, picture(1), picture(2), task=task, notes={note: reason})]
        return Reader(render_report(rows, title=instruction, provenance={note: message + "x"}))

    plain, hostile = page(["harmless"] * 6), page([text or "x" for text in texts])
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in hostile.tags] == [sorted(attributes) for _, attributes in plain.tags]


def test_nothing_points_outside_the_file() -> None:
    page = render_report([ReportRow(good("a", 5.0), HOSTILE, picture(1), picture(2))])
    for tag, attributes in Reader(page).tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert b"url(" not in page and b"@import" not in page and b"default-src 'none'" in page


def images(page: bytes) -> list[str]:
    found = re.search(rb'<script type="application/json" id="images">(.*?)</script>', page, re.S)
    assert found
    return list(json.loads(found.group(1)))


def test_a_shared_source_is_stored_once_and_small_images_stay_exact() -> None:
    rows = [ReportRow(good(str(i), 5.0), "x", picture(0), picture(i)) for i in range(1, 5)]
    addresses = images(render_report(rows))
    assert len(addresses) == 5
    decoded = PIL.Image.open(io.BytesIO(base64.b64decode(addresses[0].split(",")[1])))
    assert np.asarray(decoded.convert("RGB")).tobytes() == picture(0).pixels


def test_500_samples_of_photographs_stay_small() -> None:
    smooth = np.linspace(0, 255, 1500)[None, :, None] * np.ones((1000, 1, 3))
    noise = np.random.default_rng(0).normal(0, 9, (1000, 1500, 3))
    photograph = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    image = Image(width=1500, height=1000, pixels=photograph.tobytes())
    one = len(render_report([ReportRow(good("a", 5.0), "x", image, None)], expected_rows=500))
    empty = len(render_report([ReportRow(good("a", 5.0), "x", None, None)], expected_rows=500))
    assert (one - empty) * 1000 < 40e6  # grain is the worst case; 500 pairs stay below 40 MB


def test_means_leave_failures_out() -> None:
    rows = [ReportRow(good("a", 4.0), "x"), ReportRow(good("b", 6.0), "x"), ReportRow(failed("c"), "x")]
    words = " ".join(Reader(render_report(rows)).words)
    assert re.search(r"3\s+samples\s+5\.00\s+mean overall", words) and re.search(r"1\s+failed", words)


@pytest.mark.parametrize("score_range", [10.0, 25.0, 30.0])
def test_the_dots_of_passes_are_on_the_scale_of_the_bars(score_range: float) -> None:
    raws = ((0.2, 0.6), (0.4, 0.8))
    passes = tuple(
        PassScore(
            index=i,
            status=Status.OK,
            sc_raw=(a * score_range, score_range),
            pq_raw=(score_range, b * score_range),
            overall=10 * (a * b) ** 0.5,
        )
        for i, (a, b) in enumerate(raws)
    )
    page = render_report([ReportRow(good("a", 5.0, passes=passes), "x")]).decode()
    assert re.findall(r'"dot" style="--v:([\d.]+)"', page) == ["2.000", "4.000", "10.000", "10.000", "10.000", "10.000", "6.000", "8.000"]


def test_an_empty_report_says_so() -> None:
    assert b"0 of 0" in render_report([])


@pytest.mark.parametrize(
    ("overalls", "mean", "place"), [((2.0, 9.0, 6.0), 5.7, 2), ((None, 3.0, 9.0), 6.0, 1), ((None, None, None), None, None)]
)
def test_the_typical_pass_is_nearest_to_the_mean(overalls: tuple[float | None, ...], mean: float | None, place: int | None) -> None:
    passes = tuple(PassScore(index=i, status=Status.OK if v else Status.ERROR, overall=v) for i, v in enumerate(overalls))
    score = Score(id="a", status=Status.OK, overall=mean, passes=passes, spread=Spread())
    found = typical_pass(score)
    assert (found.index if found else None) == place
