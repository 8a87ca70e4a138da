from collections import Counter

import numpy as np
import pytest
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler

from lightning_modules.data.image_list import RESEED_OFFSET, SEEDS_PER_RUN
from lightning_modules.data.labels import ClassLabelDataModule, LabelBatches

ORDER_OF_SEED_0 = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7, 1, 7, 3, 6, 9, 2, 0, 5, 4, 8]


def batches_of(data: ClassLabelDataModule, processes: int = 1) -> LabelBatches:
    return LabelBatches(data.table(processes), data.batch_size)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_take_whole_batches_that_do_not_depend_on_their_number(processes):
    data = ClassLabelDataModule("0-4", images_per_class=5, batch_size=4, seed=3)
    alone = [item["index"].tolist() for item in batches_of(data) if item["mask"].any()]
    assert alone[0] == [0, 1, 2, 3]
    batches = batches_of(data, processes)
    taken = {}
    for rank in range(processes):
        for item in UnrepeatedDistributedSampler(batches, num_replicas=processes, rank=rank, shuffle=False):
            if batches[item]["mask"].any():
                assert item not in taken
                taken[item] = batches[item]["index"].tolist()
    assert [taken[b] for b in sorted(taken)] == alone


def test_more_processes_than_batches_get_batches_without_images():
    data = ClassLabelDataModule("0", images_per_class=1, batch_size=4)
    batches = batches_of(data, 3)
    assert [int(batches[b]["mask"].sum()) for b in range(len(batches))] == [1, 0, 0]


def test_the_last_batch_is_filled_with_the_images_of_a_longer_run():
    short = batches_of(ClassLabelDataModule("0-2", images_per_class=3, batch_size=4))
    long = batches_of(ClassLabelDataModule("0-2", images_per_class=4, batch_size=4))
    assert short[2]["mask"].tolist() == [True, False, False, False]
    for column in ("index", "label", "seed"):
        assert torch.equal(short[2][column], long[2][column])


def table_of(*arguments, **keywords) -> dict[str, np.ndarray]:
    return ClassLabelDataModule(*arguments, **keywords).table().with_format("numpy")[:]


def test_every_image_has_its_seed_and_every_part_of_a_run_is_balanced():
    table = table_of("0-99", images_per_class=3, batch_size=50, seed=5)
    assert table["seed"].tolist() == [5 * SEEDS_PER_RUN + i for i in range(300)]
    blocks = table["label"].reshape(3, 100)
    assert all(sorted(block) == list(range(100)) for block in blocks)
    assert len({tuple(block) for block in blocks}) == 3  # each in an order of its own
    assert len(set(blocks[0, :50] // 10)) == 10  # half a block has classes from everywhere


def test_a_label_given_twice_has_twice_the_images():
    assert Counter(table_of([7, 2, 7], images_per_class=4, batch_size=6)["label"].tolist()) == {7: 8, 2: 4}


def test_the_order_depends_on_seed_and_image_alone():
    short, long = (table_of("0-9", images_per_class=n, batch_size=b, seed=1) for n, b in ((3, 30), (7, 14)))
    assert np.array_equal(short["label"], long["label"][:30])
    other = table_of("0-9", images_per_class=3, batch_size=30, seed=2)
    assert not np.array_equal(other["label"], short["label"])


def test_the_order_is_the_same_for_good():
    """A run that is continued years later, with other versions of the libraries, must not mix two orders."""
    assert table_of("0-9", images_per_class=2, batch_size=20)["label"].tolist() == ORDER_OF_SEED_0


def images_file(tmp_path, text: str):
    (tmp_path / "images.csv").write_text(text)
    return str(tmp_path / "images.csv")


def test_a_file_of_images_gives_exactly_these_by_index_whatever_the_processes(tmp_path):
    file = images_file(tmp_path, "index,label,seed\n7,3,11\n2,1,12\n9,4,13\n")
    batches = batches_of(ClassLabelDataModule(file, batch_size=2), 4)
    rows = [item for item in batches if item["mask"].any()]
    for column, values in (("index", [2, 7, 9]), ("label", [1, 3, 4]), ("seed", [12, 11, 13])):
        assert torch.cat([item[column][item["mask"]] for item in rows]).tolist() == values
    assert len(batches) == 4 and all(item["index"].shape == (2,) for item in batches)


def test_a_file_without_index_counts_and_one_without_seeds_takes_the_runs(tmp_path):
    table = table_of(images_file(tmp_path, "label,seed\n3,11\n1,11\n"))
    assert (table["index"].tolist(), table["label"].tolist()) == ([0, 1], [3, 1])
    table = table_of(images_file(tmp_path, "label,index\n3,8\n1,5\n"), seed=2)
    assert (table["label"].tolist(), table["seed"].tolist()) == ([1, 3], [2_000_005, 2_000_008])


def test_settings_of_a_file_change_with_its_images_and_not_with_its_name_or_the_order_of_its_rows(tmp_path):
    text = "index,label,seed\n0,3,11\n1,1,12\n4,1,12\n"
    settings = ClassLabelDataModule(images_file(tmp_path, text)).settings()
    assert settings["labels"]["index"] == "0-1,4" and settings["labels"]["images"] == 3
    (tmp_path / "other.csv").write_text("index,label,seed,file\n4,1,12,a\n1,1,12,b\n0,3,11,c\n")
    assert ClassLabelDataModule(str(tmp_path / "other.csv")).settings() == settings
    for edited, part in (("4,1,13", "seed_sha256"), ("4,2,12", "label_sha256"), ("5,1,12", "index")):
        changed = ClassLabelDataModule(images_file(tmp_path, text.replace("4,1,12", edited))).settings()["labels"]
        assert [key for key in changed if changed[key] != settings["labels"][key]] == [part]


@pytest.mark.parametrize(
    ("columns", "arguments", "error"),
    [
        ("label,seed", {"images_per_class": 2}, r"images_per_class: .* one by one .* expected none or 1, got 2"),
        ("label,index", {"images_per_class": 2}, "images_per_class: .* got 2"),
        ("label,seed", {"seed": 3}, "seed: .*images.csv has a column seed; expected none or 0, got 3"),
    ],
)
def test_an_option_that_a_file_of_images_leaves_no_room_for_is_refused(tmp_path, columns, arguments, error):
    file = images_file(tmp_path, f"{columns}\n1,1\n")
    with pytest.raises(ValueError, match=error):
        ClassLabelDataModule(file, **arguments)
    assert ClassLabelDataModule(file, images_per_class=1).images == 1


def test_no_seed_of_any_run_reaches_those_of_reseeded_arms():
    data = ClassLabelDataModule([0], images_per_class=1, seed=2**20 - 1)
    assert data.seed * SEEDS_PER_RUN + SEEDS_PER_RUN - 1 < RESEED_OFFSET


@pytest.mark.parametrize(
    "arguments",
    [{"images_per_class": 0}, {"batch_size": 0}, {"seed": -1}, {"seed": 2**20}, {"images_per_class": 10**7}],
)
def test_wrong_numbers_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ClassLabelDataModule("0-9", **arguments)
