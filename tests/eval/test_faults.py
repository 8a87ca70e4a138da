"""The main job is killed, stopped, or finds no room; the same command again gives what an undisturbed run gives."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import sdvar
from eval import fid
from lightning_modules.run_lock import RunLock

ROOT = Path(__file__).parents[2]
IMAGES = 60  # of an arm: 5 classes x 12, in batches of 3


def command(pair_files, out: Path, processes: int = 1) -> list[str]:
    files = [text for name, file in pair_files.items() for text in (f"--{name}", str(file))]
    run = [sys.executable, str(ROOT / "eval" / "fid.py"), *files, "--out", str(out), "--metrics", "none"]
    run += ["--images_per_class", "12", "--batch_size", "3", "--threads", "1", "--accelerator", "cpu"]
    return [*run, "--devices", str(processes), "--sampling.top_k", "0", "--sampling.top_p", "0"]


def contents(out: Path) -> dict[str, bytes]:
    """Images and manifests; batches.csv holds times."""
    files = [*out.rglob("*.png"), *out.rglob("manifest.csv")]
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(files)}


def rows_promise(out: Path) -> set[str]:
    """The image files of all rows that a stopped run left."""
    return {
        str(part.parent / row.split(",")[3])
        for part in out.rglob("manifest.rank*.csv")
        for row in part.read_text().splitlines()
    }


def start(run: list[str]) -> subprocess.Popen:
    return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_images(process: subprocess.Popen, out: Path, count: int) -> None:
    """Until the run has written that many images, all arms counted, or is done."""
    while process.poll() is None and len(list(out.rglob("*.png"))) < count:
        time.sleep(0.02)


def ranks(process: subprocess.Popen) -> list[int]:
    """Process ids of the run, rank 0 first."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def finish(run: list[str]) -> None:
    """The same command, until it is alone in the folder."""
    deadline = time.time() + 60
    while (again := subprocess.run(run, capture_output=True, text=True, timeout=300)).returncode:
        assert "another run is writing" in again.stderr, again.stderr  # ranks of the killed run are still ending
        assert time.time() < deadline, again.stderr
        time.sleep(0.5)


@pytest.fixture(scope="module")
def undisturbed(pair_files, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("faults") / "undisturbed"
    finish(command(pair_files, out))
    return contents(out)


def check_killed(pair_files, out, undisturbed, processes, victim, moment):
    run = command(pair_files, out, processes)
    process = start(run)
    wait_for_images(process, out, moment)
    if process.poll() is None:
        if victim == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(ranks(process)[victim], signal.SIGKILL)
    process.communicate(timeout=120)
    finish(run)
    assert contents(out) == undisturbed


@pytest.mark.parametrize("processes, victim", [(1, 0), (2, 0), (2, 1)])
def test_killed_at_a_random_moment(pair_files, tmp_path, undisturbed, processes, victim):
    moment = random.Random(f"{processes} {victim}").randrange(1, 4 * IMAGES)
    check_killed(pair_files, tmp_path / "run", undisturbed, processes, victim, moment)


@pytest.mark.proof
@pytest.mark.parametrize("attempt", range(20))
def test_killed_at_many_random_moments(pair_files, tmp_path, undisturbed, attempt):
    draw = random.Random(attempt)
    processes = draw.choice([1, 2])
    victim = draw.choice(["all", *range(processes)])
    check_killed(pair_files, tmp_path / "run", undisturbed, processes, victim, draw.randrange(1, 4 * IMAGES))


def test_stopped_by_a_cluster(pair_files, tmp_path, undisturbed):
    run = command(pair_files, tmp_path / "run")
    process = start(run)
    wait_for_images(process, tmp_path / "run", 40)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "run the same command again to continue" in errors
    images = {str(file) for file in (tmp_path / "run").rglob("*.png")}
    assert 0 < len(images) < 5 * IMAGES
    assert rows_promise(tmp_path / "run") == images  # what was still being written is there, with its rows
    finish(run)
    assert contents(tmp_path / "run") == undisturbed


def test_a_second_run_into_the_folder_is_refused(pair_files, tmp_path):
    first = RunLock(tmp_path / "run")
    first.acquire(rank=0)
    second = subprocess.run(command(pair_files, tmp_path / "run"), capture_output=True, text=True, timeout=120)
    assert second.returncode == 2
    assert f"another run is writing to {tmp_path / 'run'} (rank 0: process {os.getpid()} on" in second.stderr
    assert "Traceback" not in second.stderr
    first.release()


@contextmanager
def small_disk(folder: Path):
    """A file system of 400 KB there."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(pair_files, tmp_path, undisturbed):
    out = tmp_path / "small" / "run"
    with small_disk(out.parent):
        full = subprocess.run(command(pair_files, out), capture_output=True, text=True, timeout=300)
        assert full.returncode == 2
        assert full.stderr.startswith(f"eval/fid.py: error: out: {out} cannot be written: ")
        assert "No space left on device" in full.stderr and len(full.stderr.splitlines()) == 1
        images = {name: data for name, data in contents(out).items() if name.endswith(".png")}
        assert images and all(undisturbed[name] == data for name, data in images.items())
        assert rows_promise(out) <= {str(out / name) for name in images}


def stopped_with(line: list[str], capsys) -> str:
    """The one line of an error with which the command ends."""
    with pytest.raises(SystemExit) as stop:
        fid.main(line)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and len(error.splitlines()) == 1
    return error


@pytest.fixture
def small_job(pair_files, tmp_path) -> list[str]:
    """Two arms of 10 images, for this process."""
    one_arm = ["--images_per_class", "2", "--strategy", "Handoff", "--strategy.entry", "2"]
    return [*command(pair_files, tmp_path / "run")[2:], *one_arm]


def test_a_folder_that_cannot_be_written(small_job, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    with small_disk(tmp_path / "small"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "small")], check=True)
        error = stopped_with([*small_job, "--out", str(tmp_path / "small" / "run")], capsys)
    assert f"out: {tmp_path / 'small' / 'run'} cannot be written" in error


def test_an_image_that_somebody_replaced(small_job, tmp_path, capsys):
    """It is named before anything is decoded, and stays what it is."""
    fid.main(small_job)
    capsys.readouterr()
    before = contents(tmp_path / "run")
    file, other = (tmp_path / "run" / "handoff" / "000" / name for name in ("000003.png", "000004.png"))
    file.write_bytes(other.read_bytes())
    error = stopped_with(small_job, capsys)
    assert f"{tmp_path / 'run'} holds images that the run did not write: {file} (1 in all)" in error
    assert file.read_bytes() == other.read_bytes()
    file.unlink()
    fid.main(small_job)
    assert contents(tmp_path / "run") == before


def test_an_image_that_holds_no_numbers(small_job, tmp_path, capsys, monkeypatch):
    decode = sdvar.decode

    def broken(pair, labels, seeds, *arguments, **options):
        result = decode(pair, labels, seeds, *arguments, **options)
        if 7 in seeds.tolist():
            result.images[seeds.tolist().index(7)] = float("inf")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(sdvar, "decode", broken)
        assert "baseline: image 7 holds NaN or infinite pixels" in stopped_with(small_job, capsys)
    kept = contents(tmp_path / "run")
    assert len(rows_promise(tmp_path / "run")) == 2 * 6  # the two batches before
    fid.main(small_job)
    images = {name for name in kept if name.endswith(".png")}
    assert len(images) == 2 * 6 and all(contents(tmp_path / "run")[name] == kept[name] for name in images)
