"""The report in a real browser: everything loads, and nothing needs sideways scrolling on a phone."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from eval.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH (Debian: apt install chromium)")

# A window cannot be as narrow as a phone, but a frame can; it sees what happens inside.
FRAMES = """<!doctype html><body>
<iframe id="phone" src="report.html" width="390" height="800"></iframe>
<iframe id="desk" src="report.html" width="1280" height="800"></iframe>
<script>
onload = () => {
  const results = {};
  const inside = (box, edge) => box.left >= -1 && box.right <= edge + 1;
  for (const frame of document.querySelectorAll("iframe")) {
    const view = frame.contentWindow, page = frame.contentDocument, root = page.documentElement;
    page.querySelectorAll("details").forEach((one) => { one.open = true; });
    const images = [...page.images];
    const focusable = [...page.querySelectorAll("[tabindex], a, summary")];
    const within = (selector) =>
      [...page.querySelectorAll(selector)].every((one) => inside(one.getBoundingClientRect(), root.clientWidth));
    results[frame.id] = {
      inner: root.clientWidth,
      scroll: root.scrollWidth,
      images: images.length,
      broken: images.filter((image) => !image.complete || image.naturalWidth === 0).length,
      pixelated: images.every((image) => view.getComputedStyle(image).imageRendering === "pixelated"),
      smallest: Math.min(...images.map((image) => image.getBoundingClientRect().width)),
      focus: focusable.filter((one) => { one.focus(); return page.activeElement === one; }).length,
      focusable: focusable.length,
      inside: within("svg, .scroll, .strip, pre"),
    };
  }
  const out = document.createElement("pre");
  out.id = "results";
  out.textContent = JSON.stringify(results);
  document.body.append(out);
};
</script></body>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Runs the browser on a file and returns the document and what was said on the console."""

    def run(url, *options):
        profile = tmp_path_factory.mktemp("profile")
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [f"--user-data-dir={profile}", "--allow-file-access-from-files", "--enable-logging=stderr"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", *options, "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


@pytest.fixture
def measured(browse, run_folder):
    write_report(run_folder)
    (run_folder / "frames.html").write_text(FRAMES)
    document, console = browse((run_folder / "frames.html").as_uri())
    assert console == []
    found = re.search(r'<pre id="results">(.*?)</pre>', document, flags=re.S)
    assert found, document[-2000:]
    return json.loads(unescape(found.group(1)))


def test_page_loads_fits_and_can_be_walked_by_keyboard(measured):
    for name, width in (("phone", 390), ("desk", 1280)):
        frame = measured[name]
        assert width - 20 <= frame["inner"] <= width
        assert frame["scroll"] <= frame["inner"], f"{name}: the page scrolls sideways"
        assert frame["inside"], f"{name}: something sticks out"
        assert frame["images"] == 48 and frame["broken"] == 0
        assert frame["pixelated"] and frame["smallest"] >= 60
        assert frame["focus"] == frame["focusable"] > 10


def test_a_console_error_or_a_wide_page_would_be_noticed(browse, tmp_path):
    """Proves that the checks above can fail."""
    (tmp_path / "report.html").write_text(
        "<body><table class=scroll><tr><td style='min-width: 900px'>wide</table>"
        "<img src='data:image/png;base64,AAAA'><script>console.error('broken')</script>"
    )
    (tmp_path / "frames.html").write_text(FRAMES)
    document, console = browse((tmp_path / "frames.html").as_uri())
    assert any("broken" in line for line in console)
    phone = json.loads(unescape(re.search(r'<pre id="results">(.*?)</pre>', document, flags=re.S).group(1)))["phone"]
    assert phone["scroll"] > phone["inner"] and phone["broken"] == 1
