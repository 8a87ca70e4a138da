"""The report in a real browser: it loads, it fits a phone, and it can be used by mouse and by keyboard."""

import pytest

from tests.eval.report.browser import CHROMIUM, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt install chromium)")

LAYOUT = """(() => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  document.getElementById("show-differences").checked = true;
  const root = document.documentElement, images = [...document.querySelectorAll("section img")]
    .filter((image) => !image.closest("dialog"));
  const focusable = [...document.querySelectorAll("[tabindex], a, summary, button, input")]
    .filter((one) => !one.closest("dialog"));
  const boxes = [...document.querySelectorAll("svg, .scroll, .strip, pre, .warning, .tile")];
  return {
    inner: innerWidth,
    scroll: root.scrollWidth,
    images: images.length,
    broken: images.filter((image) => !image.complete || image.naturalWidth === 0).length,
    pixelated: images.every((image) => getComputedStyle(image).imageRendering === "pixelated"),
    smallest: Math.min(...images.map((image) => image.getBoundingClientRect().width)),
    deaf: focusable.filter((one) => { one.focus(); return document.activeElement !== one; }).length,
    focusable: focusable.length,
    outside: boxes.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).length,
  };
})()"""
SHOWN = """(() => [...document.querySelectorAll("#enlarged figure:not([hidden])")]
  .map((one) => [one.querySelector("figcaption").textContent, one.querySelector("img").naturalWidth]))()"""
OPEN = "document.getElementById('enlarged').open"
FOCUS = "document.activeElement.querySelector('img')?.alt"
HEADINGS = "[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))"


@pytest.fixture(scope="module")
def page(reported, tmp_path_factory):
    """The report of the made-up run, open on a wide screen."""
    with browser(tmp_path_factory.mktemp("profile")) as one:
        one.open(reported / "report.html", 1280)
        yield one


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False)])
def test_page_loads_fits_and_can_be_walked_by_keyboard(page, reported, width, dark):
    page.open(reported / "report.html", width, dark=dark)
    found = page.value(LAYOUT)
    assert page.errors == []
    assert found["scroll"] <= found["inner"] == width, "the page scrolls sideways"
    assert found["outside"] == 0 and found["broken"] == 0
    assert found["images"] == 12 * 4 + 12 * 3, "pictures, and differences of all arms except the baseline"
    assert found["pixelated"] and found["smallest"] >= 60
    assert found["deaf"] == 0 and found["focusable"] > 60
    headings = page.value(HEADINGS)
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(headings, headings[1:]))


def test_an_image_is_enlarged_by_mouse_beside_the_baselines(page, reported):
    page.open(reported / "report.html", 1280)
    page.click(".case:nth-child(2) figure:nth-child(3) .enlarge")
    assert page.value(OPEN)
    captions, widths = zip(*page.value(SHOWN))
    assert captions[:2] == ("lossy", "baseline") and captions[2].startswith("difference, times ")
    assert widths == (32, 32, 32)
    page.click("#enlarged [data-by='-1']")
    assert page.value(SHOWN)[0][0] == "speculative"
    page.click("#enlarged .close")
    assert not page.value(OPEN)
    page.click(".case:nth-child(1) figure:nth-child(1) .enlarge")
    assert [caption for caption, _ in page.value(SHOWN)] == ["baseline"]
    page.press("Escape")


def test_an_image_is_enlarged_by_keyboard_and_focus_returns(page, reported):
    page.open(reported / "report.html", 390)
    page.value("document.querySelector('.enlarge').focus()")
    page.press("Tab")
    before = page.value(FOCUS)
    assert "speculative" in before
    page.press("Enter")
    assert page.value(OPEN) and page.value("document.getElementById('enlarged').contains(document.activeElement)")
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    page.press("ArrowRight")
    assert page.value(SHOWN)[0][0] == "lossy"
    page.press("Escape")
    assert not page.value(OPEN)
    assert page.value(FOCUS) == before, "where it was, however many images were looked at"
    assert page.errors == []


def test_the_difference_view_is_switched_by_keyboard_and_mouse(page, reported):
    page.open(reported / "report.html", 1280)
    visible = "[...document.querySelectorAll('img.difference')].filter((one) => one.checkVisibility()).length"
    assert page.value(visible) == 0
    page.value("document.getElementById('show-differences').focus()")
    page.press(" ")
    assert page.value(visible) == 12 * 3
    page.click("label[for=show-differences]")
    assert page.value(visible) == 0


def test_what_repeats_the_run_is_copied_or_at_least_selected(page, reported):
    page.open(reported / "report.html", 1280)
    page.click("[data-copies=command]")
    told = page.value("new Promise((done) => setTimeout(() => done(document.querySelector('.copy').textContent), 200))")
    assert told == "Copied" or (told.startswith("Selected") and "eval/fid.py" in page.value("String(getSelection())"))


def test_print_has_paper_and_ink_and_no_controls(page, reported):
    page.open(reported / "report.html", 794, dark=True)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    controls = "[...document.querySelectorAll('.copy, summary, #show-differences')]"
    assert page.value(f"{controls}.every((one) => !one.checkVisibility())")
    assert page.value("getComputedStyle(document.querySelector('.case')).breakInside") == "avoid"
    page.call("Emulation.setEmulatedMedia", media="")


def test_a_console_error_a_lost_image_and_a_wide_page_would_be_noticed(page, tmp_path):
    """Proves that the checks above can fail."""
    (tmp_path / "page.html").write_text(
        "<section><table class=scroll><tr><td style='min-width: 900px'>wide</table>"
        "<img src='data:image/png;base64,AAAA'></section><input id=show-differences>"
        "<script>console.error('broken'); missing()</script><img src=nowhere.png>"
    )
    page.errors.clear()
    page.open(tmp_path / "page.html", 390)
    found = page.value(LAYOUT)
    assert found["scroll"] > found["inner"] and found["broken"] == 1 and found["outside"] == 1
    told = " ".join(page.errors)
    assert "broken" in told and "missing is not defined" in told and "ERR_FILE_NOT_FOUND" in told
    page.errors.clear()
