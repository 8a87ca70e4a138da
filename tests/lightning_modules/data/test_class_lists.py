"""What a user may write as labels, and what each mistake is answered."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from lightning_modules.data.class_lists import as_ranges, parse_ranges, read_class_list
from lightning_modules.data.class_names import imagenet_names


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("1,5,7", [1, 5, 7]),
        (" 0-2, 7 ", [0, 1, 2, 7]),
        ("4", [4]),
        (4, [4]),
        ([3, 3, 1], [3, 3, 1]),
        ("golden retriever,volcano", [207, 980]),
        ("Golden  Retriever, 5, 8-9", [207, 5, 8, 9]),
        (["volcano", "0-1", 7], [980, 0, 1, 7]),
    ],
)
def test_labels_are_ranges_lists_ints_and_names(given, labels):
    classes = read_class_list(given)
    assert classes.labels == labels and not classes.fixed


def test_there_are_a_thousand_names():
    names = imagenet_names()
    assert len(names) == 1000 and (names[0], names[207], names[980]) == ("tench", "golden retriever", "volcano")


def write(folder, name, content):
    file = folder / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table(content), file)
    else:
        file.write_text(content)
    return str(file)


ROWS = [{"label": 3, "seed": 7, "index": 2}, {"label": 1, "seed": 8, "index": 0}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\ufefffile,index,label,seed\nx.png,2, 3,7\n\ny.png,0,1,8\n"),
        ("a.json", json.dumps(ROWS)),
        ("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("a.parquet", {key: [row[key] for row in ROWS] for key in ROWS[0]}),
        ("a.PARQUET", None),
    ],
)
def test_a_table_gives_the_images_one_by_one(tmp_path, name, content):
    if content is None:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / name)
    classes = read_class_list(str(tmp_path / name) if content is None else write(tmp_path, name, content))
    assert (classes.labels, classes.seeds, classes.index) == ([3, 1], [7, 8], [2, 0])
    assert classes.fixed


@pytest.mark.parametrize(
    ("name", "content"),
    [("labels.txt", "3\n1\n\n volcano \n"), ("labels", "3\n1\n980"), ("l.csv", "label\n3\n1\nVolcano\n")],
)
def test_a_file_of_labels_alone_gives_classes(tmp_path, name, content):
    classes = read_class_list(write(tmp_path, name, content))
    assert classes.labels == [3, 1, 980] and not classes.fixed


def test_an_edited_file_is_read_anew(tmp_path):
    """The library's cache goes by a file's name and date."""
    import os

    file = write(tmp_path, "l.csv", "label\n3\n")
    before = os.stat(file)
    assert read_class_list(file).labels == [3]
    write(tmp_path, "l.csv", "label\n4\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_class_list(file).labels == [4]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("5-2", "the range '5-2' runs backwards"),
        ("nowhere.txt", "nor an existing file; as a name: 'nowhere.txt' is not an ImageNet class"),
        ("0-3,volcanoo", r"'volcanoo' is not an ImageNet class \(near: volcano"),
        ("cardigan", r"'cardigan' names the classes 264 \(Cardigan\) and 474 \(cardigan\); give the number"),
        (["cat food"], "labels: 'cat food' is not an ImageNet class"),
        ([], "got none"),
        ("", "got ''"),
        ("1,,2", "got ''"),
        ("1,-2", "got '-2'"),
        ([-1], "got -1"),
        ([1.5], "got 1.5"),
        ([True], "got True"),
        ("0-99999999", "gives 100,000,000 labels; expected at most 1,000,000"),
        ("9" * 400, "expected ints >= 0.*, got '9{50,60}…"),
        ("0-" + "9" * 400, "expected ints >= 0.*, got '0-9{50,60}…"),
    ],
)
def test_wrong_labels_are_named(given, error):
    with pytest.raises(ValueError, match=error) as caught:
        read_class_list(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("l.txt", "3\n\n-4\n", r"l.txt, line 3: expected a label \(an int >= 0\), got '-4'"),
        ("l.txt", "3\nvolcanoo\n", r"line 2: .*'volcanoo' is not an ImageNet class \(near: volcano"),
        ("l.txt", "3 4\n", "line 1: .*got '3 4'"),
        ("l.txt", "\n", "expected one label per line, got none"),
        ("l.csv", "label\n1\n2.0\n", r"l.csv, row 2: expected a label \(an int >= 0\), got '2.0'"),
        ("l.csv", "label,seed\n1,2\n,3\n", "row 2: .*got none"),
        ("l.csv", "label,seed\n1,2\n1\n", f"row 2: expected as seed an int from 0 to {2**40 - 1}, got none"),
        ("l.csv", "label,seed\n1,-2\n", "row 1: expected as seed an int from 0 .* got '-2'"),
        ("l.csv", f"label,seed\n1,{2**40}\n", f"row 1: expected as seed an int from 0 .* got '{2**40}'"),
        ("l.csv", "label,index\n1,0\n1,1000000\n", "row 2: expected as index an int from 0 to 999999, got '1000000'"),
        ("l.csv", "label,index\n1,4\n1,5\n2,4\n", "row 3: expected an index of its own, got 4 as in 1"),
        ("l.csv", "class,seed\n1,0\n", "l.csv: expected a column 'label', got 'class', 'seed'"),
        ("l.csv", "label\n1,2\n", "row 1 has 2 values for 1 columns"),
        ("l.csv", "label,seed\n1,2\n1,2,3\n", "cannot be read as a table with rows: row 2 has 3 values for 2 columns"),
        ("l.csv", "", "expected a column 'label', got none"),
        ("l.csv", "label\n", "expected one or more rows, got none"),
        pytest.param("l.json", "[" * 100_000, "cannot be read as a table with rows: maximum recursion", id="deep"),
        ("l.json", "{", "cannot be read as a table with rows: Expecting property name"),
        ("l.json", "[3, 4]", "row 1: expected a mapping such as .*, got 3"),
        ("l.json", "null", "expected a list of rows, got NoneType"),
        ("l.jsonl", "null\n", "row 1: expected a mapping such as .*, got None"),
        ("l.csv", "label,sed\n1,2\n", "expected the columns label, seed, index, got 'sed'; did you mean seed"),
        ("l.csv", "label, label\n1,2\n", "expected each column once, got 'label' twice"),
        ("l.jsonl", '{"label": 1}\n{"label": 1.5}\n', "row 2: .*got 1.5"),
        ("l.jsonl", '{"label": true}\n', "row 1: .*got True"),
        ("l.jsonl", '{"label": 1, "seed": 2}\n{"label": 1}\n', "row 2: expected as seed .* got none"),
        ("l.parquet", {"label": [1, None]}, "row 2: .*got none"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(tmp_path, name, content, error, capfd):
    with pytest.raises(ValueError, match=error) as caught:
        read_class_list(write(tmp_path, name, content))
    assert str(caught.value).startswith(f"labels: {tmp_path}") and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # the one error is all that is said


def test_a_path_is_no_pattern(tmp_path):
    """A library that globs would read the neighbour of the first, and both files for the second."""
    for name, label in (("l1.csv", 1), ("l[1].csv", 2), ("a_b.csv", 3), ("a_*.csv", 4), ("p1.parquet", 5)):
        content = {"label": [label]} if name.endswith("parquet") else f"label\n{label}\n"
        write(tmp_path, name, content)
    write(tmp_path, "p[1].parquet", {"label": [6]})
    for name, label in (("l[1].csv", 2), ("a_*.csv", 4), ("p[1].parquet", 6)):
        assert read_class_list(str(tmp_path / name)).labels == [label]


def test_blanks_around_the_names_of_columns_mean_nothing(tmp_path):
    classes = read_class_list(write(tmp_path, "l.csv", "label, seed\n1, 5\n"))
    assert (classes.labels, classes.seeds) == ([1], [5])


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "l.parquet").write_text("nope")
    with pytest.raises(ValueError, match=r"l\.parquet cannot be read as a table with rows: Parquet"):
        read_class_list(str(tmp_path / "l.parquet"))
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ValueError, match=r"l\.txt is not a text file; tables end in \.csv, \.parquet"):
        read_class_list(str(tmp_path / "l.txt"))


def test_a_label_beyond_the_models_classes_is_refused_where_it_stands(tmp_path):
    with pytest.raises(ValueError, match="labels: expected classes 0 to 9, got 10"):
        read_class_list("0-10").check_classes(10)
    file = write(tmp_path, "l.txt", "9\n\n10\n")
    with pytest.raises(ValueError, match=r"labels: .*l\.txt, line 3: expected classes 0 to 9, got 10"):
        read_class_list(file).check_classes(10)


def test_names_are_for_models_of_imagenet_alone():
    classes = read_class_list("tench")
    classes.check_classes(1000)
    with pytest.raises(ValueError, match="names are those of ImageNet, this model has 10 classes; give numbers"):
        classes.check_classes(10)


@pytest.mark.parametrize("numbers", [[0], [0, 1, 2], [3, 5, 6, 9], list(range(50_000))])
def test_ranges_say_their_numbers_in_few_characters(numbers):
    text = as_ranges(numbers)
    assert parse_ranges(text) == numbers and len(text) < 12
