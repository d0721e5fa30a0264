"""Against the published code's own results on 66 raw answers: its good values come back, its defects do not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from editscore.judges import pass_overall, read_text, summarize
from editscore.types import PassScore, Status

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "editscore_parse_aggregate.json").read_text("utf-8"))
RANGE = GOLDEN["score_range"]
PARTNER = (20.0, 15.0)
CLOSE = {"rel": 0.0, "abs": 1e-12}
# The only defect is an exception, and the text shows one pair in range: the pair may come back.
PAIRS_ALLOWED = {
    "text_after_with_braces": (18, 21),
    "missing_reasoning": (18, 21),
    "capital_keys": (18, 21),
    "rationale_key": (18, 21),
    "fullwidth_colon": (18, 21),
    "nested_object": (18, 21),
    "strings_in_list": (18, 21),
}


def one_pass(sc: tuple[float, float] | None, pq: tuple[float, float] | None, index: int = 0) -> PassScore:
    is_good = sc is not None and pq is not None
    return PassScore(
        index,
        Status.OK if is_good else Status.PARSE_FAILED,
        sc,
        pq,
        overall=pass_overall(sc, pq, RANGE) if sc and pq else None,
    )


def test_the_file_is_whole() -> None:
    assert len(GOLDEN["outputs"]) == 66
    assert all(
        GOLDEN["outputs"][i]["defects"] == ["exception_instead_of_failure"]
        for i, o in enumerate(GOLDEN["outputs"])
        if o["name"] in PAIRS_ALLOWED
    )


@pytest.mark.parametrize("case", GOLDEN["outputs"], ids=lambda case: case["name"])
def test_a_good_answer_gives_the_published_value_and_a_bad_one_a_failure(case: dict[str, Any]) -> None:
    reading = read_text(case["raw"], RANGE)
    if not case["defects"]:
        assert reading.status is Status.OK and reading.pair is not None
        as_sc, as_pq = case["evaluate_as_SC"]["value"], case["evaluate_as_PQ"]["value"]
        summary = summarize([one_pass(reading.pair, PARTNER)], score_range=RANGE, aggregation="average_last")
        assert summary.prompt_following == pytest.approx(as_sc["prompt_following"], **CLOSE)
        assert summary.consistency == pytest.approx(as_sc["consistency"], **CLOSE)
        assert summary.pq == pytest.approx(as_sc["perceptual_quality"], **CLOSE)
        assert summary.overall == pytest.approx(as_sc["overall"], **CLOSE)
        swapped = summarize([one_pass(PARTNER, reading.pair)], score_range=RANGE, aggregation="average_last")
        assert swapped.pq == pytest.approx(as_pq["perceptual_quality"], **CLOSE)
        assert swapped.overall == pytest.approx(as_pq["overall"], **CLOSE)
    elif reading.pair is not None:
        assert reading.pair == PAIRS_ALLOWED[case["name"]]
        assert reading.status is Status.OK
    else:
        assert reading.status is not Status.OK
        assert reading.message


def test_the_reasoning_of_plain_answers_comes_back() -> None:
    for case in GOLDEN["outputs"]:
        if case["name"] in (
            "plain",
            "plain_multiline",
            "score_first",
            "fenced_json",
            "missing_comma_list",
            "single_quotes",
            "cut_after_list",
        ):
            assert read_text(case["raw"], RANGE).reasoning == "The cat was recoloured as asked but the tail lost detail."


def test_refusals_are_refusals() -> None:
    raw = {case["name"]: case["raw"] for case in GOLDEN["outputs"]}
    for name in ("refusal_exact", "refusal_other"):
        assert read_text(raw[name], RANGE).status is Status.REFUSED


@pytest.mark.parametrize("case", GOLDEN["aggregation_range_25_4_passes"])
def test_four_passes_average_as_published(case: dict[str, Any]) -> None:
    passes = [one_pass(tuple(sc), tuple(pq), i) for i, (sc, pq) in enumerate(zip(case["SC"], case["PQ"], strict=True))]
    last = summarize(passes, score_range=RANGE, aggregation="average_last")
    published = case["evaluate_average_last"]
    assert last.prompt_following == pytest.approx(published["prompt_following"], **CLOSE)
    assert last.consistency == pytest.approx(published["consistency"], **CLOSE)
    assert last.pq == pytest.approx(published["perceptual_quality"], **CLOSE)
    assert last.overall == pytest.approx(published["overall"], **CLOSE)
    assert last.sc == pytest.approx(case["batch_average_last"]["SC_score"], **CLOSE)
    first = summarize(passes, score_range=RANGE, aggregation="average_first")
    # Of the two published paths this is the one without the defect: both sides by their minimum.
    assert first.overall == pytest.approx(case["batch_average_first"]["O_score"], **CLOSE)
    assert first.sc == pytest.approx(case["batch_average_first"]["SC_score"], **CLOSE)


@pytest.mark.parametrize("case", GOLDEN["aggregation_with_broken_pass"], ids=lambda case: case["name"])
@pytest.mark.parametrize("aggregation", ["average_last", "average_first"])
def test_a_broken_pass_leaves_the_mean_and_its_denominator(case: dict[str, Any], aggregation: str) -> None:
    sc = [read_text(text, RANGE) for text in case["answers"]["SC"]]
    pq = [read_text(text, RANGE) for text in case["answers"]["PQ"]]
    assert [reading.status is Status.OK for reading in sc] == [True, False, True, True]
    summary = summarize(
        [one_pass(a.pair, b.pair, i) for i, (a, b) in enumerate(zip(sc, pq, strict=True))], score_range=RANGE, aggregation=aggregation
    )
    # By hand: SC minima 18, 15, 19; PQ minima 16 in every pass (four of them for average_first, all equal).
    minima, quality = [7.2, 6.0, 7.6], 6.4
    by_hand = {
        "average_last": sum(math.sqrt(sc * quality) for sc in minima) / 3,
        "average_first": math.sqrt(sum(minima) / 3 * quality),
    }
    assert summary.overall == pytest.approx(by_hand[aggregation], **CLOSE)
    assert summary.sc == pytest.approx(sum(minima) / 3, **CLOSE)
    wrong = case[f"batch_{aggregation}"]["value"]["O_score"]
    assert summary.overall != pytest.approx(wrong, rel=0, abs=1e-3)
