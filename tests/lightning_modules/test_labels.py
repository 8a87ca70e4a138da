import pytest
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler

from lightning_modules.labels import SEEDS_PER_RUN, ClassLabelDataModule, LabelBatches, parse_labels
from lightning_modules.predictor import RESEED_OFFSET


def batches_of(data: ClassLabelDataModule, processes: int = 1) -> LabelBatches:
    return LabelBatches(data.table(processes), data.batch_size, data.images)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("1,5,7", [1, 5, 7]),
        (" 0-2, 7 ", [0, 1, 2, 7]),
        ("4", [4]),
        (4, [4]),
        ([3, 3, 1], [3, 3, 1]),
    ],
)
def test_labels_are_ranges_lists_and_ints(given, labels):
    assert parse_labels(given) == labels


def test_labels_from_a_file_keep_their_order_and_repeats(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("3\n1\n\n3\n")
    assert parse_labels(str(file)) == [3, 1, 3]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("5-2", "runs backwards"),
        ("nowhere.txt", "nor an existing file"),
        ([], "got none"),
        ([-1], "got -1"),
        ([1.5], "got 1.5"),
        ([True], "got True"),
    ],
)
def test_wrong_labels_are_named(given, error):
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        parse_labels(given)


def test_a_wrong_line_of_a_label_file_is_named(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("3\ncat\n")
    with pytest.raises(ValueError, match=r"line 2.*'cat'"):
        parse_labels(str(file))


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


def test_every_class_gets_its_images_and_every_image_its_seed():
    batches = batches_of(ClassLabelDataModule([7, 2], images_per_class=3, batch_size=6, seed=5))
    assert batches[0]["label"].tolist() == [7, 2] * 3
    assert batches[0]["seed"].tolist() == [5 * SEEDS_PER_RUN + i for i in range(6)]


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


def test_a_label_beyond_the_models_classes_is_refused():
    with pytest.raises(ValueError, match="expected classes 0 to 9, got 10"):
        ClassLabelDataModule("0-10").check_classes(10)
