"""The picture in docs/report.md: a run's whole report, as Chromium renders it, in columns.

python docs/report_picture.py runs/fid docs/images/report.png
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT, COLUMNS, SHRUNK = 1040, 2240, 4, 0.4


def main(run: Path, picture: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("docs/report_picture.py: error: no Chromium on the PATH (Debian: apt install chromium)")
    page = (run / "report.html").resolve().as_uri()
    sheet = Image.new("RGB", (COLUMNS * WIDTH, HEIGHT))
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{COLUMNS * HEIGHT}"]
        subprocess.run([*command, f"--screenshot={shot}", page], check=True, stderr=subprocess.DEVNULL)
        with Image.open(shot) as image:
            for column in range(COLUMNS):
                part = image.crop((0, column * HEIGHT, WIDTH, (column + 1) * HEIGHT))
                sheet.paste(part, (column * WIDTH, 0))
    size = (round(sheet.width * SHRUNK), round(sheet.height * SHRUNK))
    sheet.resize(size, Image.Resampling.LANCZOS).quantize(method=Image.Quantize.MAXCOVERAGE).save(
        picture, optimize=True
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
