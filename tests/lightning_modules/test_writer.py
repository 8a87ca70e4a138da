import csv
import errno
import hashlib
import io
import logging
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image

import sdvar
from lightning_modules.arms.arm import Arm
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.predictor import SDVARPredictor
from lightning_modules.processes.stopping import StopOnSignal
from lightning_modules.run.folder import RunFolder
from lightning_modules.run.formats.png import write_png
from lightning_modules.run.formats.tables import Table, image_file
from lightning_modules.writer import ImageWriter

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
IMAGES = 10  # 5 classes x 2, in batches of 4: the last is filled up


def predict(pair, out: Path, overwrite: bool = False, seed: int = 0, callbacks=None) -> SDVARPredictor:
    predictor = SDVARPredictor(
        pair,
        [Arm("baseline", sdvar.Baseline()), Arm("speculative", sdvar.Speculative(gamma=2))],
        engine=sdvar.Engine(threads=1),
    )
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*(callbacks or [ImageWriter(out, overwrite)])],
    )
    data = ClassLabelDataModule("0-4", images_per_class=2, batch_size=4, seed=seed)
    trainer.predict(predictor, datamodule=data, return_predictions=False)
    return predictor


def decoded_images(predictor: SDVARPredictor) -> int:
    return max(int(statistics.images) for statistics in predictor.statistics)


def contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def images(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(out).items() if name.endswith(".png")}


@pytest.fixture
def finished(pair, tmp_path) -> Path:
    predict(pair, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_holds_one_image_and_one_row_for_each_index_of_each_arm(finished):
    for arm in ("baseline", "speculative"):
        with (finished / arm / "manifest.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["index"]) for row in rows] == list(range(IMAGES))
        assert sorted(str(p.relative_to(finished / arm)) for p in (finished / arm).rglob("*.png")) == [
            row["file"] for row in rows
        ]
        assert all(row["tokens_equal_baseline"] == "1" and row["agreeing_tokens"] == "30" for row in rows)
        for row in rows:
            assert row["sha256"] == hashlib.sha256((finished / arm / row["file"]).read_bytes()).hexdigest()
    left = [name for name in contents(finished) if "rank" in name or name.endswith(".tmp")]
    assert all(name.startswith(".locks/") for name in left)


def test_pixels_are_rounded_not_cut_off(pair, finished):
    with (finished / "baseline" / "manifest.csv").open(newline="") as file:
        labels = [int(row["label"]) for row in csv.DictReader(file)]
    expected = sdvar.decode(pair, labels[:4], [0, 1, 2, 3], sdvar.Baseline()).images
    with Image.open(finished / "baseline" / image_file(2)) as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(pixels, (expected[2] * 255).round().to(torch.uint8))
    assert not torch.equal(pixels, (expected[2] * 255).to(torch.uint8))


def test_a_thousand_images_a_folder():
    assert [image_file(i) for i in (0, 999, 1000, 49_999)] == [
        "000/000000.png",
        "000/000999.png",
        "001/001000.png",
        "049/049999.png",
    ]


def test_no_order_of_the_callbacks_matters_and_none_changes_the_batch(pair, finished, tmp_path, monkeypatch):
    """Callbacks that stop, and those that only look, come before or after the writer."""
    seen = []

    class Look(Callback):
        def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            seen.append({name: str(value) for name, value in batch.items()})

        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            assert seen[-1] == {name: str(value) for name, value in batch.items()}
            stop.received = signal.SIGTERM if batch["batch"] == 1 else None

    for name, order in (("before", lambda *callbacks: callbacks), ("behind", lambda *callbacks: callbacks[::-1])):
        stop = StopOnSignal()
        callbacks = order(Look(), stop, ImageWriter(tmp_path / name))
        with pytest.raises(SystemExit):
            predict(pair, tmp_path / name, callbacks=callbacks)
        rows = (tmp_path / name / "speculative" / "manifest.rank0.csv").read_text().splitlines()
        assert len(rows) == 8, "the batch in which the signal came is written"
        predict(pair, tmp_path / name)
        assert images(tmp_path / name) == images(finished)


def test_the_same_run_again_decodes_nothing_and_changes_nothing(pair, finished):
    before = contents(finished)
    assert decoded_images(predict(pair, finished)) == 0
    assert contents(finished) == before


def test_only_what_is_missing_is_made_again(pair, finished):
    before = contents(finished)
    (finished / "speculative" / image_file(5)).unlink()
    manifest = finished / "baseline" / "manifest.csv"
    manifest.write_text("".join(line for line in manifest.open() if not line.startswith("6,")))
    kept = finished / "speculative" / image_file(4)
    written = kept.stat().st_mtime_ns
    assert decoded_images(predict(pair, finished)) == 4  # the one batch that holds 5 and 6
    assert contents(finished) == before
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no picture"])
def test_a_damaged_image_is_noticed_and_made_again(pair, finished, damage, caplog):
    before = contents(finished)
    file = finished / "speculative" / image_file(5)
    file.write_bytes(damage(file.read_bytes()))
    assert decoded_images(predict(pair, finished)) == 4
    assert contents(finished) == before
    assert f"{file} is damaged and is made again" in caplog.text


def picture(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("side", [32, 16])
def test_an_image_that_somebody_replaced_is_not_overwritten(pair, finished, side):
    file = finished / "speculative" / image_file(5)
    before = images(finished)
    (finished / "baseline" / image_file(9)).unlink()  # the run has something to do
    file.write_bytes(picture(side))
    touched = images(finished)
    with pytest.raises(ValueError, match=r"did not write: .*000005\.png \(1 in all\); remove"):
        predict(pair, finished)
    assert images(finished) == touched
    file.unlink()
    again = predict(pair, finished)
    assert [int(statistics.images) for statistics in again.statistics] == [2, 4]  # of each arm what it lacks
    assert images(finished) == before


def test_decoding_goes_on_while_images_are_written_and_no_row_comes_before_its_image(
    pair, finished, tmp_path, monkeypatch
):
    third, seen, decode, write = threading.Event(), [], sdvar.decode, write_png

    def decoding(pair, labels, seeds, *arguments, **options):
        if 8 in seeds.tolist() and not third.is_set():
            seen.extend((tmp_path / "late").rglob("*.rank0.csv"))
            third.set()
        return decode(pair, labels, seeds, *arguments, **options)

    def slow(path, image):
        assert third.wait(30), "decoding waited for the writer"
        return write(path, image)

    monkeypatch.setattr(sdvar, "decode", decoding)
    monkeypatch.setattr("lightning_modules.writer.write_png", slow)
    monkeypatch.setattr("lightning_modules.writer.default_workers", lambda _: 40)  # no task waits for a thread
    predict(pair, tmp_path / "late")
    assert third.is_set() and not seen

    def images_and_manifests(out):
        return {name: data for name, data in contents(out).items() if name.endswith(("png", "manifest.csv"))}

    assert images_and_manifests(tmp_path / "late") == images_and_manifests(finished)


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(pair, finished, tmp_path, monkeypatch):
    write = write_png

    def full(path, image):
        if path.name == "000005.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, image)

    with monkeypatch.context() as patched:
        patched.setattr("lightning_modules.writer.write_png", full)
        with pytest.raises(OSError, match=r"cannot be written.*No space left on device; what is finished is kept"):
            predict(pair, tmp_path / "full")
    rows = RunFolder(tmp_path / "full").manifest("baseline").path.with_suffix(".rank0.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows][:4] == ["0", "1", "2", "3"]
    assert not {"4", "5", "6", "7"} & {row.split(",")[0] for row in rows}
    predict(pair, tmp_path / "full")
    for name, data in contents(finished).items():
        if name.endswith((".png", "manifest.csv")):
            assert (tmp_path / "full" / name).read_bytes() == data


def test_images_that_are_no_numbers_stop_the_run(pair, tmp_path, monkeypatch):
    decode = sdvar.decode

    def broken(pair, labels, seeds, *arguments, **options):
        result = decode(pair, labels, seeds, *arguments, **options)
        if 6 in seeds.tolist():
            result.images[seeds.tolist().index(6), 0, 0, 0] = float("nan")
        return result

    monkeypatch.setattr(sdvar, "decode", broken)
    with pytest.raises(ValueError, match="image 6 holds NaN or infinite pixels"):
        predict(pair, tmp_path / "run")
    for arm in ("baseline", "speculative"):  # the batch before it stays, although it was still being written
        assert len((tmp_path / "run" / arm / "manifest.rank0.csv").read_text().splitlines()) == 4
        assert len(list((tmp_path / "run" / arm).rglob("*.png"))) == 4


def test_a_run_that_was_killed_is_continued_from_what_its_processes_left(pair, finished):
    before = contents(finished)
    for arm in ("baseline", "speculative"):  # as a killed run leaves it: parts, the last line of one torn
        manifest = finished / arm / "manifest.csv"
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text(lines[0])
        (finished / arm / "manifest.rank1.csv").write_text("".join(lines[5:9]))
        (finished / arm / "manifest.rank0.csv").write_text("".join(lines[1:5]) + lines[9][:-4])
        (finished / arm / image_file(9)).rename(finished / arm / "000" / ".000009.png.0123456789abcdef.tmp")
    assert decoded_images(predict(pair, finished)) == 2
    assert contents(finished) == before


def test_other_settings_are_refused_by_name_and_nothing_is_touched(pair, finished):
    before = contents(finished)
    with pytest.raises(ValueError, match=r"seed: 0 in the folder, 1 now"):
        predict(pair, finished, seed=1)
    assert contents(finished) == before


def test_overwrite_starts_afresh(pair, finished):
    (finished / "metrics.json").write_text("{}")
    assert decoded_images(predict(pair, finished, overwrite=True, seed=1)) == IMAGES
    with (finished / "baseline" / "manifest.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["seed"] == "1000000"
    assert not (finished / "metrics.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_written_to(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not empty and contains no run"):
        RunFolder(tmp_path).open({"seed": 0}, ["baseline"], overwrite)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run").check({})


def test_a_crash_while_writing_leaves_no_half_image(tmp_path, monkeypatch):
    def crash(*_):
        raise OSError("killed")

    monkeypatch.setattr("sdvar.system.atomic.os.replace", crash)
    with pytest.raises(OSError, match="killed"):
        write_png(tmp_path / "000" / "000000.png", torch.zeros(4, 4, 3, dtype=torch.uint8))
    assert not list((tmp_path / "000").iterdir())


def test_rows_that_find_no_room_leave_nothing_for_later_rows_to_continue(tmp_path, monkeypatch):
    import io as files

    records = Table(tmp_path / "table.csv", ("key", "value"))
    records.append(0, [{"key": 1, "value": "a"}])
    opened = Path.open

    class Full(files.FileIO):
        def write(self, data):
            if self.tell() > 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data[:3])

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda self, *_, **__: Full(str(self), "ab"))
        with pytest.raises(OSError, match="No space"):
            records.append(0, [{"key": 2, "value": "b"}, {"key": 3, "value": "c"}])
    assert Path.open is opened
    records.append(0, [{"key": 4, "value": "d"}])
    records.merge()
    assert [row["key"] for row in records.read()] == ["1", "4"]


def test_merging_twice_or_after_a_crash_doubles_no_row(tmp_path):
    records = Table(tmp_path / "table.csv", ("key", "value"))
    records.append(1, [{"key": 2, "value": "b"}])
    records.append(0, [{"key": 1, "value": "a"}])
    part = (tmp_path / "table.rank1.csv").read_bytes()
    records.merge()
    (tmp_path / "table.rank1.csv").write_bytes(part)  # killed between writing the table and removing the parts
    records.merge()
    assert records.read() == [{"key": "1", "value": "a"}, {"key": "2", "value": "b"}]
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]
