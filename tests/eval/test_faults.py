"""The main job is killed, stopped, or finds no room; the same command again gives what an undisturbed run gives."""

import json
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
from lightning_modules.run.lock import RunLock
from tests.paths import ROOT

PER_CLASS, BATCH = 12, 3
IMAGES = 5 * PER_CLASS  # of an arm
ARMS = 2
TIMINGS = ("images_per_second", "seconds_per_batch_median", "speed_relative_to_baseline")
TIMINGS += tuple(f"{name}_interval" for name in TIMINGS)
TIMINGS += ("seconds_per_scale", "seconds_of_no_scale", "seconds_of_class_prefix")


def options(
    pair_files, out: Path, processes: int = 1, arm: tuple[str, ...] = ("Speculative", "--strategy.gamma", "2")
) -> list[str]:
    files = [text for name, file in pair_files.items() for text in (f"--{name}", str(file))]
    run = [*files, "--out", str(out), "--strategy", *arm, "--metrics", "is,fid,pairs"]
    run += ["--feature_extractor", "fashion-mnist-128", "--images_per_class", str(PER_CLASS)]
    run += ["--batch_size", str(BATCH), "--threads", "1", "--accelerator", "cpu", "--devices", str(processes)]
    return [*run, "--sampling.top_k", "0", "--sampling.top_p", "0"]


def command(pair_files, out: Path, processes: int = 1) -> list[str]:
    return [sys.executable, str(ROOT / "eval" / "fid.py"), *options(pair_files, out, processes)]


def contents(out: Path) -> dict[str, bytes]:
    """Images and manifests; batches.csv holds times."""
    files = [*out.rglob("*.png"), *out.rglob("manifest.csv")]
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(files)}


def metrics(out: Path) -> dict[str, dict]:
    """What metrics.json says of the arms, without the times."""
    arms = json.loads((out / "metrics.json").read_text())["arms"]
    return {name: {key: value for key, value in arm.items() if key not in TIMINGS} for name, arm in arms.items()}


def outcome(out: Path) -> tuple[dict[str, bytes], dict[str, dict]]:
    return contents(out), metrics(out)


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


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or dead and only not yet asked for its status."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def finish(run: list[str]) -> None:
    """The same command; it must find the folder free."""
    again = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr


@pytest.fixture(scope="module")
def undisturbed(pair_files, tmp_path_factory) -> tuple[dict[str, bytes], dict[str, dict]]:
    out = tmp_path_factory.mktemp("faults") / "undisturbed"
    fid.main(options(pair_files, out))
    made = outcome(out)
    assert len(made[0]) == ARMS * (IMAGES + 1) and "frechet_distance_to_baseline" in made[1]["speculative"]
    return made


def check_killed(pair_files, out, undisturbed, processes, victim, moment, resume):
    """Kills a rank, or all, when so many images are there; then nobody writes on, and resuming makes up for it."""
    run = command(pair_files, out, processes)
    process = start(run)
    wait_for_images(process, out, moment)
    if process.poll() is None:
        everyone = ranks(process)
        if victim == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(everyone[victim], signal.SIGKILL)
        deadline = time.time() + 60
        while not all(map(has_ended, everyone)):
            process.poll()
            assert time.time() < deadline, "a process of a killed run goes on"
            time.sleep(0.05)
    process.communicate(timeout=60)
    resume(run)
    assert outcome(out) == undisturbed


def continue_here(run: list[str]) -> None:
    """Finishes the run in this process: a second start-up saved."""
    fid.main([*run[2:], "--devices", "1"])


PROVEN = pytest.mark.proof


@pytest.mark.parametrize(
    "processes, victim", [(1, 0), pytest.param(2, 0, marks=PROVEN), pytest.param(2, 1, marks=PROVEN)]
)
def test_killed_at_a_random_moment(pair_files, tmp_path, undisturbed, processes, victim):
    moment = random.Random(f"{processes} {victim}").randrange(1, ARMS * IMAGES)
    check_killed(pair_files, tmp_path / "run", undisturbed, processes, victim, moment, continue_here)


@pytest.mark.proof
@pytest.mark.parametrize("attempt", range(20))
def test_killed_at_many_random_moments(pair_files, tmp_path, undisturbed, attempt):
    draw = random.Random(attempt)
    processes = draw.choice([1, 2])
    victim = draw.choice(["all", *range(processes)])
    moment = draw.randrange(1, ARMS * IMAGES)
    check_killed(pair_files, tmp_path / "run", undisturbed, processes, victim, moment, finish)


def check_stopped(pair_files, out, undisturbed, processes, told):
    """One process gets SIGTERM when a few images are written."""
    process = start(command(pair_files, out, processes))
    wait_for_images(process, out, 10)
    everyone = ranks(process)
    os.kill(everyone[told], signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert all(map(has_ended, everyone))
    assert "Traceback" not in errors
    images = {str(file) for file in out.rglob("*.png")}
    assert 0 < len(images) < ARMS * IMAGES
    if told == 0:
        assert rows_promise(out) == images  # what was still being written is there, with its rows
    continue_here(command(pair_files, out))
    assert outcome(out) == undisturbed
    return process.returncode, errors


@pytest.mark.proof
@pytest.mark.parametrize("processes", [1, 2])
def test_stopped_by_a_cluster(pair_files, tmp_path, undisturbed, processes):
    status, errors = check_stopped(pair_files, tmp_path / "run", undisturbed, processes, told=0)
    assert status == 128 + signal.SIGTERM
    assert "run the same command again to continue" in errors


@pytest.mark.proof
def test_one_process_alone_is_told_to_stop(pair_files, tmp_path, undisturbed):
    """The others are ended too, and nobody waits for ever for somebody who has left."""
    status, _ = check_stopped(pair_files, tmp_path / "run", undisturbed, 2, told=1)
    assert status != 0


def test_a_second_run_into_the_folder_is_refused(pair_files, tmp_path, refused):
    first = RunLock(tmp_path / "run")
    for rank in (0, 1):
        first.acquire(rank)
    error = refused(fid.main, options(pair_files, tmp_path / "run"))
    first.release()
    assert f"another run is writing to {tmp_path / 'run'} (rank 0: process {os.getpid()} on" in error
    assert f"; rank 1: process {os.getpid()} on" in error
    assert not list((tmp_path / "run").rglob("*.png"))


@contextmanager
def small_disk(folder: Path):
    """A file system of 300 KB there."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(pair_files, tmp_path, undisturbed, refused):
    out = tmp_path / "small" / "run"
    with small_disk(out.parent):
        error = refused(fid.main, options(pair_files, out))
        assert error.startswith(f"eval/fid.py: error: out: {out} cannot be written: ")
        assert "No space left on device" in error
        images = {name: data for name, data in contents(out).items() if name.endswith(".png")}
        assert images and all(undisturbed[0][name] == data for name, data in images.items())
        assert rows_promise(out) <= {str(out / name) for name in images}


@pytest.fixture
def small_job(pair_files, tmp_path) -> list[str]:
    """Two arms of 10 images, for this process."""
    handoff = ("Handoff", "--strategy.entry", "2")
    return [*options(pair_files, tmp_path / "run", arm=handoff), "--images_per_class", "2", "--metrics", "none"]


def test_a_folder_that_cannot_be_written(small_job, tmp_path, refused, monkeypatch):
    monkeypatch.setattr("sdvar.decode", lambda *_, **__: pytest.fail("a model ran"))
    with small_disk(tmp_path / "small"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "small")], check=True)
        error = refused(fid.main, [*small_job, "--out", str(tmp_path / "small" / "run")])
    assert f"out: {tmp_path / 'small' / 'run'} cannot be written" in error


def test_an_image_that_somebody_replaced(small_job, tmp_path, refused):
    """It is named before anything is decoded, and stays what it is."""
    fid.main(small_job)
    before = contents(tmp_path / "run")
    file, other = (tmp_path / "run" / "handoff" / "000" / name for name in ("000003.png", "000004.png"))
    file.write_bytes(other.read_bytes())
    error = refused(fid.main, small_job)
    assert f"{tmp_path / 'run'} holds images that the run did not write: {file} (1 in all)" in error
    assert file.read_bytes() == other.read_bytes()
    file.unlink()
    fid.main(small_job)
    assert contents(tmp_path / "run") == before


def test_an_image_that_holds_no_numbers(small_job, tmp_path, refused, monkeypatch):
    decode = sdvar.decode

    def broken(pair, labels, seeds, *arguments, **options):
        result = decode(pair, labels, seeds, *arguments, **options)
        if 7 in seeds.tolist():
            result.images[seeds.tolist().index(7)] = float("inf")
        return result

    with monkeypatch.context() as patched:
        patched.setattr(sdvar, "decode", broken)
        assert "baseline: image 7 holds NaN or infinite pixels" in refused(fid.main, small_job)
    kept = contents(tmp_path / "run")
    assert len(rows_promise(tmp_path / "run")) == 2 * 6  # the two batches before
    fid.main(small_job)
    images = {name for name in kept if name.endswith(".png")}
    assert len(images) == 2 * 6 and all(contents(tmp_path / "run")[name] == kept[name] for name in images)
