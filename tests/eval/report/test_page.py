"""eval.report.page: the page says what is in the run, in words that do not promise more."""

import base64
import json
import logging
import re
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

from eval.report import reproduce, table, verdict
from eval.report.page import SECTIONS, write_report
from eval.report.run import Run
from eval.report.words import COLUMNS, DASH, FAR, metric_names, noise_floor, sameness, share, shown
from tests.eval.finished_run import SIMULATED, arm_metrics, arms, write_run


class Page(HTMLParser):
    """Collects what the tests ask of the page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.scripts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        (self.scripts if self.tags and self.tags[-1][0] == "script" else self.words).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page(reported):
    return Page((reported / "report.html").read_text())


def written(out, arms, **options):
    """The page of a made-up run, without the plots that take long."""
    return Page(write_report(write_run(out, arms, patch_nums=None, **options)).read_text())


def run_of(arms, **metrics):
    return Run(None, {"arms": arms, "batch_size": 64, "patch_nums": [1, 2, 3, 4, 6, 8]} | metrics, "", {})


def test_page_is_self_contained(page, reported):
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attrs.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, value)
    assert len(page.all("script")) == 1 and not page.all("link")[1:]
    assert not re.search(r"fetch\(|XMLHttpRequest|import\b", " ".join(page.scripts))
    html = (reported / "report.html").read_text()
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


def test_page_has_every_section_and_unique_identifiers(page):
    assert [attrs["id"] for attrs in page.all("section")] == list(SECTIONS)
    identifiers = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(identifiers) == len(set(identifiers))
    references = {attrs[name][1:] for _, attrs in page.tags for name in ("href", "xlink:href") if name in attrs}
    assert {reference for reference in references if not reference.startswith("ata:")} <= set(identifiers)


def test_images_are_the_files_bytes_and_have_alternative_texts(page, reported):
    images = [attrs for attrs in page.all("img") if attrs.get("class") == "picture"]
    assert len(images) == 12 * 4, "six that differ most and six typical ones, in four arms"
    files = {file.read_bytes() for file in reported.rglob("*.png")}
    for image in images:
        assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) in files
        assert re.fullmatch(r"(Disc|Ring|Bar|Cross), image \d+, decoded by \w+: .+", image["alt"])
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
    written(tmp_path, run, class_names=["<b>Disc</b>", "Ring", "Bar", "Cross"])
    html = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in html and "<b>Disc" not in html and "&lt;script&gt;alert" in html
    assert html.count("<script") == 1


def test_metrics_of_another_network_are_never_called_fid(page):
    assert "Fréchet distance (fashion-mnist-128)" in page.text
    assert "Inception Score (fashion-mnist-128)" in page.text
    assert not re.search(r"\bFID\b", page.text)
    assert re.search(r"Inception Score (?!\(fashion-mnist-128\))", page.text) is None
    inception = {name: arm | {"feature_extractor": "inception-v3-compat"} for name, arm in arms().items()}
    assert metric_names(inception) == ("FID", "Inception Score")
    assert "has an FID of 0.000 to" in verdict.section(run_of(inception))["lines"][0]["text"]


def test_verdict_names_tokens_calls_speed_and_distance_beside_the_noise_floor(page):
    assert (
        "speculative is lossless: all 40 images have the baseline's tokens; it needs 4.51 target calls instead of 6, "
        "runs at 0.87 times the baseline's speed and has a Fréchet distance (fashion-mnist-128) of 0.000 "
        "to the baseline (noise floor 0.104)." in page.text
    )
    assert "lossy is lossy: 48.2 % of its tokens match the baseline's" in page.text


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "exact", "all 1,000 images have the baseline's tokens"),
        (
            {"images_differing_from_baseline": 2, "near_tie_images": 2},
            "exact",
            "up to near-ties in rounding (2 of 1,000 images differ",
        ),
        ({"images_differing_from_baseline": 3, "near_tie_images": 2}, "fault", "1 image differs"),
        ({"exact": False}, "distribution", "lossless in distribution"),
        ({"lossless": False, "exact": False}, "lossy", "> 99.9 % of its tokens match"),
    ],
)
def test_a_lossless_claim_is_checked_against_the_tokens(changes, kind, words):
    agreement = 0.9999 if changes else 1.0
    state = sameness(
        arm_metrics(images=1000, token_agreement_with_baseline=agreement, strategy="Speculative()", kind="speculative")
        | changes
    )
    assert state["kind"] == kind
    assert words in state["words"]


def tokens_tile(arms):
    (tile,) = (
        tile for tile in verdict.section(run_of(arms))["tiles"] if tile["title"] == "Tokens matching the baseline"
    )
    return tile


def test_reduced_precision_is_neither_a_fault_nor_other_seeds():
    """There near-ties are not judged, so their count is absent."""
    run = arms()
    run["speculative"] |= {"token_agreement_with_baseline": 0.9, "images_differing_from_baseline": 5}
    del run["speculative"]["near_tie_images"]
    tile = tokens_tile(run)
    assert not tile["fault"] and "reduced precision" in tile["note"]
    words = verdict.section(run_of(run))["lines"][0]["text"]
    assert "is lossless up to rounding in reduced precision (90 % of its tokens match the baseline's)" in words


def test_a_broken_promise_is_shown_as_a_fault(tmp_path):
    run = arms()
    run["speculative"] |= {"token_agreement_with_baseline": 0.99, "images_differing_from_baseline": 5}
    assert tokens_tile(run)["fault"]
    first = verdict.section(run_of(run))["verdict"][0]
    assert (first["title"], first["arm"]) == ("Fault", "speculative") and "5 images differ" in first["text"]
    page = written(tmp_path, run)
    assert any("fault" in attrs.get("class", "") for attrs in page.all("div"))


def test_noise_floor_is_the_baseline_with_other_seeds_only():
    run = arms()
    assert noise_floor(run) == 0.104
    run["lossy_reseeded"] = run["lossy"] | {"token_agreement_with_baseline": None}
    assert noise_floor(run) == 0.104
    del run["baseline_reseeded"]
    assert noise_floor(run) is None


def test_warnings_are_in_place_and_not_repeated(page):
    context = table.section(run_of(arms()))
    assert [warning["arms"] for warning in context["shared"]] == ["all arms", "all arms except baseline"]
    assert [warning["text"] for warning in context["shared"]] == arm_metrics()["warnings"]
    assert list(context["warnings"].values()) == [[], [], [], ["a warning of this arm alone"], []]
    assert page.text.count("Fréchet distance to the baseline: 40 images") == 1
    assert "Warning, handoff: a warning of this arm alone" in page.text
    assert "Warning, all distances and scores: their features come from fashion-mnist-128" in page.text
    simulated = arms()["lossy"] | SIMULATED
    context = table.section(run_of({"baseline": arm_metrics(), "sim": simulated}))
    assert context["simulated"] == ["sim"] and context["kinds"] == {"sim": "simulated"}


def test_every_metric_is_beside_its_arm(page):
    tables = table.section(run_of(arms()))["tables"]
    rows = tables["Further metrics"]["rows"]
    assert rows["lossy"] == [
        "3.210 ± 0.420", "81.2 %", "64 %", "1", "21.35", "0.8132", "4.5 %",
    ]  # fmt: skip
    assert rows["speculative"] == ["0.000 ± 0.000", DASH, DASH, "40", DASH, "1.0000", "0 %"]
    assert tables["Main metrics"]["rows"]["lossy"][:2] == ["2.64", "4.61"]
    assert "Kernel distance (fashion-mnist-128)" in page.text and "KID" not in page.text
    assert "The noise floor is 0.104" in page.text and "Precision and recall compare with the reference" in page.text
    assert list(table.section(run_of({"baseline": arm_metrics()}))["tables"]) == ["Main metrics"]


def test_tables_derive_from_the_registry(page):
    """Every column of the registry that an arm has is on the page, with its title and description."""
    having = {key for arm in arms().values() for key, value in arm.items() if value is not None}
    columns = [column for column in COLUMNS.values() if column.title and column.key in having]
    headings = {attrs["title"] for attrs in page.all("th") if "title" in attrs}
    assert len(columns) > 15 and headings == {column.description for column in columns}
    assert all(column.title in page.text for column in columns)


def test_the_reseeded_baseline_says_what_it_is(page):
    assert "The baseline with other seeds: its distance to the baseline is the noise floor." in page.text


def test_a_section_is_a_module_and_a_template_and_imports_no_page():
    folder = Path(verdict.__file__).parent
    for name in SECTIONS:
        assert callable(import_module(f"eval.report.{name}").section)
        assert (folder / "templates" / "sections" / f"{name}.html.j2").is_file()
    for file in folder.glob("*.py"):
        assert file.name == "page.py" or "report.page" not in file.read_text(), file


def test_repeats_are_shown_with_their_range(tmp_path):
    run = arms()
    spread = {"mean": 0.31, "min": 0.28, "max": 0.335}
    run["lossy"]["repeats"] = run["baseline"]["repeats"] = {"count": 3, "images": 1000}
    run["lossy"]["repeats"] = run["lossy"]["repeats"] | {"frechet_distance_to_baseline": spread}
    page = written(tmp_path, run)
    assert "Each of the 3 repeats has 1,000 images" in page.text
    assert "lossy distance to baseline 0.310 0.280 0.335" in page.text


def test_a_run_without_a_config_still_makes_a_page(tmp_path):
    written(tmp_path, {"baseline": arm_metrics()})
    (tmp_path / "config.yaml").unlink()
    page = Page(write_report(tmp_path).read_text())
    assert "The same run from its configuration" not in page.text and "a made-up processor" in page.text
    (tmp_path / "config.yaml").write_text("trainer: {}\nmodel:\n  class_path: x\n")
    assert "python -m lightning_modules predict --config" in Page(write_report(tmp_path).read_text()).text


def test_rounding_never_flatters():
    assert [share(value) for value in (1.0, 0.99999, 0.482, 0.0, None)] == ["100 %", "> 99.9 %", "48.2 %", "0 %", DASH]
    assert [shown(FAR, value) for value in (-2e-7, 0.1044, 2.271, None)] == ["0.000", "0.104", "2.271", DASH]


def test_smallest_run_still_makes_a_page(tmp_path):
    """One arm, metrics switched off, classes without names."""
    of_images = ("inception", "frechet", "feature", "class")
    minimal = {key: value for key, value in arm_metrics(images=4).items() if not key.startswith(of_images)}
    page = Page(write_report(write_run(tmp_path, {"baseline": minimal})).read_text())
    assert [attrs["id"] for attrs in page.all("section")] == ["verdict", "table", "scales", "reproduce"]


def test_config_and_environment_are_on_the_page(page, reported):
    assert "python eval/fid.py --pair tiny --images_per_class 10" in page.text
    assert "eval/fid.py --config" in page.text and "images_per_class: 10" in page.text
    assert "0123456789abcdef" * 4 in page.text and "a made-up processor" in page.text
    assert [attrs["data-copies"] for attrs in page.all("button") if attrs.get("class") == "copy"] == [
        "command", "from-config", "config", "facts",
    ]  # fmt: skip
    assert not list(reported.glob(".*.tmp"))


def test_the_machine_that_measured_is_named_where_another_decoded():
    decoded = {"command": "python eval/fid.py", "python": "3.11", "versions": {"torch": "2"}, "threads": 1}
    measured = decoded | {"device": "cuda", "threads": 8, "weights_sha256": {"inception": "ab"}}
    run = run_of({"baseline": arm_metrics()}, environment=decoded, measured_on=measured)
    facts = {
        "python": "3.11",
        "versions": {"torch": "2"},
        "threads": 1,
        "feature_extractor_sha256": {"inception": "ab"},
    }
    run = Run(Path("run"), run.metrics, "", {})
    assert reproduce.section(run)["facts"] == facts
    run.metrics["measured_on"] = measured | {"command": "python eval/measure.py"}
    assert reproduce.section(run)["facts"] == facts | {
        "measured by": "python eval/measure.py", "measured on": {"threads": 8},
    }  # fmt: skip
    assert json.loads(reproduce.section(run)["facts_json"]) == reproduce.section(run)["facts"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda out: (out / "metrics.json").unlink(), "expected metrics.json, got no such file"),
        (lambda out: (out / "metrics.json").write_text("{"), "expected JSON, got invalid text"),
        (lambda out: (out / "metrics.json").write_text(json.dumps({"arms": {}})), "expected arms, got none"),
    ],
)
def test_an_unfinished_run_is_named(run_folder, break_it, message):
    break_it(run_folder)
    with pytest.raises(ValueError, match=message):
        write_report(run_folder)


def test_guidance_inside_a_draft_is_said_and_what_was_warned_of_it(tmp_path):
    text = "the draft has guidance inside for cfg 2, and decodes for cfg 1.5: its scales have its own guidance"
    page = written(tmp_path, {"tail": arm_metrics(lossless=False, guidance_inside="cfg 2", warnings=[text])})
    assert "Its draft has guidance inside for cfg 2: no pass of it runs a null branch." in page.text
    assert f"Warning, tail: {text}." in page.text


def test_the_library_of_the_plots_says_nothing_where_there_is_no_home():
    assert not logging.getLogger("matplotlib").isEnabledFor(logging.WARNING)
