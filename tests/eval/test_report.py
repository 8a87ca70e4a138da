"""eval.report: what the page says is what the run holds, in words that do not promise more."""

import base64
import json
import re
from html.parser import HTMLParser

import pytest

from eval.report import SECTIONS, Run, load_run, write_report
from eval.report_distances import distances_context
from eval.report_grid import choose, differences, grid_context
from eval.report_plots import scales_context, tradeoff_context
from eval.report_verdict import (
    DASH,
    distance,
    metric_names,
    noise_floor,
    sameness,
    share,
    table_context,
    verdict_context,
)
from tests.eval.finished_run import arms, figures, write_run


class Page(HTMLParser):
    """Collects what the tests ask of the page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def page(run_folder):
    return Page(write_report(run_folder).read_text())


def run_of(arms, **metrics):
    return Run(None, {"arms": arms, "batch_size": 64, "patch_nums": [1, 2, 3, 4, 6, 8]} | metrics, "", {})


def test_page_is_self_contained(page, run_folder):
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attrs.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, value)
    assert not page.all("script") and not page.all("link")[1:]
    assert "@import" not in (run_folder / "report.html").read_text()
    assert not re.search(r"url\((?!#)", (run_folder / "report.html").read_text())


def test_page_has_every_section_and_unique_identifiers(page):
    assert [attrs["id"] for attrs in page.all("section")] == [name for name, _, _ in SECTIONS]
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    references = {attrs[name][1:] for _, attrs in page.tags for name in ("href", "xlink:href") if name in attrs}
    assert {reference for reference in references if not reference.startswith("ata:")} <= set(identifiers)


def test_images_are_the_files_bytes_and_have_alternative_texts(page, run_folder):
    images = page.all("img")
    assert len(images) == 12 * 4, "six that differ most and six typical ones, in four arms"
    files = {file.read_bytes() for file in run_folder.rglob("*.png")}
    for image in images:
        assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) in files
        assert re.fullmatch(r"(Disc|Ring|Bar|Cross), image \d+, drawn by \w+: .+", image["alt"])
    assert not any("baseline_reseeded" in image["alt"] for image in images), "other seeds are not the same image"
    for attrs in [attrs for _, attrs in page.tags if attrs.get("role") == "img"]:
        assert len(attrs["aria-label"]) > 30


def test_whatever_scrolls_can_be_reached_by_keyboard(page):
    scrolling = [
        attrs for _, attrs in page.tags if set((attrs.get("class") or "").split()) & {"scroll", "strip", "tall"}
    ]
    assert scrolling
    assert all(attrs.get("tabindex") == "0" and attrs.get("aria-label") for attrs in scrolling)


def test_text_from_the_run_cannot_become_markup(tmp_path):
    run = arms()
    run["lossy"]["warnings"] = ["<script>alert(1)</script>"]
    html = write_report(write_run(tmp_path, run, class_names=["<b>Disc</b>", "Ring", "Bar", "Cross"])).read_text()
    assert "<script" not in html and "<b>Disc" not in html and "&lt;script&gt;" in html


def test_figures_of_another_network_are_never_called_fid(page, tmp_path):
    assert "Fréchet distance (fashion-mnist-128)" in page.text
    assert "Inception Score (fashion-mnist-128)" in page.text
    assert not re.search(r"\bFID\b", page.text)
    assert re.search(r"Inception Score (?!\(fashion-mnist-128\))", page.text) is None
    inception = {name: arm | {"feature_extractor": "inception-v3-compat"} for name, arm in arms().items()}
    assert metric_names(inception) == ("FID", "Inception Score")
    assert "has an FID of 0.000 to" in Page(write_report(write_run(tmp_path / "run", inception)).read_text()).text


def test_verdict_names_tokens_calls_speed_and_distance_beside_the_noise_floor(page):
    assert (
        "speculative is lossless: all 40 images have the baseline's tokens; it needs 4.51 target calls instead of 6, "
        "runs at 0.87 times the baseline's speed and has a Fréchet distance (fashion-mnist-128) of 0.000 "
        "to the baseline, beside a noise floor of 0.104." in page.text
    )
    assert "lossy is lossy: it kept 48.2 % of the baseline's tokens" in page.text


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "exact", "all 1,000 images have the baseline's tokens"),
        (
            {"images_differing_from_baseline": 2, "near_tie_images": 2},
            "exact",
            "up to near-ties in rounding (2 images of",
        ),
        ({"images_differing_from_baseline": 3, "near_tie_images": 2}, "fault", "1 image differs"),
        ({"exact": False}, "distribution", "lossless in distribution"),
        ({"lossless": False, "exact": False}, "lossy", "it kept > 99.9 % of"),
    ],
)
def test_a_lossless_claim_is_checked_against_the_tokens(changes, kind, words):
    agreement = 0.9999 if changes else 1.0
    state = sameness(figures(images=1000, token_agreement_with_baseline=agreement, strategy="Speculative()") | changes)
    assert state["kind"] == kind
    assert words in state["words"]


def test_reduced_precision_is_neither_a_fault_nor_other_seeds(tmp_path):
    """There near-ties are not judged, so their count is absent."""
    run = arms()
    run["speculative"] |= {"token_agreement_with_baseline": 0.9, "images_differing_from_baseline": 5}
    del run["speculative"]["near_tie_images"]
    tile = verdict_context(run_of(run))["tiles"][0]
    assert not tile["fault"] and "reduced precision" in tile["note"]
    page = Page(write_report(write_run(tmp_path, run)).read_text())
    assert "is lossless but for the rounding of a reduced precision (90 % of the baseline's tokens)" in page.text


def test_a_broken_promise_is_shown_as_a_fault(tmp_path):
    run = arms()
    run["speculative"] |= {"token_agreement_with_baseline": 0.99, "images_differing_from_baseline": 5}
    context = verdict_context(run_of(run))
    assert context["tiles"][0]["fault"] and "5 images differ" in context["first"]["words"]
    page = Page(write_report(write_run(tmp_path, run)).read_text())
    assert any("fault" in attrs.get("class", "") for attrs in page.all("div"))


def test_noise_floor_is_the_baseline_with_other_seeds_only():
    run = arms()
    assert noise_floor(run) == 0.104
    run["lossy_reseeded"] = run["lossy"] | {"token_agreement_with_baseline": None}
    assert noise_floor(run) == 0.104
    del run["baseline_reseeded"]
    assert noise_floor(run) is None


def test_warnings_stand_in_place_and_are_not_repeated(page):
    context = table_context(run_of(arms()))
    assert [warning["arms"] for warning in context["shared"]] == ["all arms", "all arms but baseline"]
    assert [warning["text"] for warning in context["shared"]] == figures()["warnings"]
    assert [row["warnings"] for row in context["rows"]] == [[], [], [], ["a warning of this arm alone"], []]
    assert page.text.count("Fréchet distance to the baseline: 40 images") == 1
    assert "Warning, handoff: a warning of this arm alone" in page.text


def test_every_measure_stands_beside_its_arm(page):
    rows = {row["name"]: row["cells"] for row in distances_context(run_of(arms()))["rows"]}
    assert rows["lossy"] == (
        "0.261", "3.210 ± 0.420", DASH, "81.2 %", "64 %", "1 of 40", "21.35", "0.8132", "4.49 %",
    )  # fmt: skip
    assert rows["speculative"] == (
        "0.000", "0.000 ± 0.000", DASH, DASH, DASH, "40 of 40", DASH, "1.0000", "0.00 %",
    )  # fmt: skip
    assert "Kernel distance (fashion-mnist-128) × 1,000" in page.text and "KID" not in page.text  # noqa: RUF001
    assert "beside the noise floor, 0.104" in page.text and "Against the reference" in page.text
    assert distances_context(run_of({"baseline": figures()})) is None


def test_repeats_are_shown_with_their_range(tmp_path):
    run = arms()
    spread = {"mean": 0.31, "min": 0.28, "max": 0.335}
    run["lossy"]["repeats"] = run["baseline"]["repeats"] = {"count": 3, "images": 1000}
    run["lossy"]["repeats"] = run["lossy"]["repeats"] | {"frechet_distance_to_baseline": spread}
    page = Page(write_report(write_run(tmp_path, run)).read_text())
    assert "Each of 3 repeats holds 1,000 images" in page.text
    assert "lossy distance to the baseline 0.310 0.280 0.335" in page.text


def test_a_run_without_a_config_still_makes_a_page(run_folder):
    (run_folder / "config.yaml").unlink()
    page = Page(write_report(run_folder).read_text())
    assert "The same from its configuration" not in page.text and "a made-up processor" in page.text
    (run_folder / "config.yaml").write_text("trainer: {}\nmodel:\n  class_path: x\n")
    assert "python -m lightning_modules predict --config" in Page(write_report(run_folder).read_text()).text


def test_rounding_never_flatters():
    assert [share(value) for value in (1.0, 0.99999, 0.482, 0.0, None)] == ["100 %", "> 99.9 %", "48.2 %", "0 %", DASH]
    assert [distance(value) for value in (-2e-7, 0.1044, 2.271, None)] == ["0.000", "0.104", "2.27", DASH]


def test_grid_shows_the_most_different_first_and_typical_ones_of_many_classes(run_folder):
    run = load_run(run_folder)
    context = grid_context(run)
    assert [half["title"] for half in context["halves"]] == ["The images that differ most", "Typical images"]
    found = {index: {"a": float(index)} for index in range(40)}
    labels = {index: str(index // 10) for index in found}
    most, typical = choose(found, labels)
    assert most == [39, 38, 37, 36, 35, 34]
    assert {labels[index] for index in typical} == {"0", "1", "2", "3"}
    assert not set(most) & set(typical)


def test_grid_of_equal_images_has_typical_ones_only():
    most, typical = choose({index: {"a": 0.0} for index in range(20)}, dict.fromkeys(range(20), "0"))
    assert most == [] and len(typical) == 6


def test_images_with_other_seeds_or_missing_partners_are_left_out(run_folder):
    rows = {"seed": "0", "label": "0", "file": "000/000000.png", "tokens_equal_baseline": "1"}
    manifests = {
        "baseline": {0: rows, 1: rows, 2: rows},
        "speculative": {0: rows, 1: rows | {"seed": "7"}},
    }
    assert differences(load_run(run_folder), ["speculative"], manifests) == {0: {"speculative": 0.0}}


def test_plots_hold_the_arms_that_have_the_figures():
    run = run_of(arms())
    run = Run(None, run.metrics, "", dict.fromkeys(run.arms, "#2f7fd6"))
    plots = scales_context(run)["plots"]
    assert [list(plot["rows"]) for plot in plots] == [["speculative", "lossy"]] * 2
    assert plots[0]["rows"]["speculative"] == ["97 %", "83 %", "72 %", "66 %", "61 %", DASH]
    tradeoff = tradeoff_context(run)
    assert "noise floor 0.104" in tradeoff["svg"] and "var(--ink)" in tradeoff["svg"]
    assert "lossy 1.31 times as fast, 0.261" in tradeoff["alt"] and "baseline_reseeded" not in tradeoff["alt"]


def test_smallest_run_still_makes_a_page(tmp_path):
    """One arm, metrics switched off, classes without names."""
    minimal = {"strategy": "Baseline(model='target')", "lossless": True, "exact": True, "images": 4}
    page = Page(write_report(write_run(tmp_path, {"baseline": minimal})).read_text())
    assert [attrs["id"] for attrs in page.all("section")] == ["verdict", "arms", "repeat"]


def test_config_and_environment_stand_on_the_page(page, run_folder):
    assert "python eval/fid.py --pair tiny --images_per_class 10" in page.text
    assert "eval/fid.py --config" in page.text and "images_per_class: 10" in page.text
    assert "0123456789abcdef" * 4 in page.text and "a made-up processor" in page.text
    assert not list(run_folder.glob("*.partial"))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda out: (out / "metrics.json").unlink(), "holds no metrics.json"),
        (lambda out: (out / "metrics.json").write_text("{"), "is no valid JSON"),
        (lambda out: (out / "metrics.json").write_text(json.dumps({"arms": {}})), "holds no arms"),
    ],
)
def test_an_unfinished_run_is_named(run_folder, break_it, message):
    break_it(run_folder)
    with pytest.raises(ValueError, match=message):
        write_report(run_folder)
