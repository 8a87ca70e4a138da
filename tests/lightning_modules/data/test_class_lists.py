"""What a user may write as labels, and what each mistake is answered."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from lightning_modules.data.class_lists import read_class_list
from lightning_modules.data.class_names import imagenet_names, imagenet_wnids
from lightning_modules.data.label_ranges import as_ranges, parse_ranges


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
        ("n02099601, n15075141", [207, 999]),
        (["n01440764 tench", "n02012849"], [0, 134]),
        (["N01440764", "N02012849 CRANE"], [0, 134]),
        ("golden_retriever,Great_White_Shark", [207, 2]),
        ("Cardigan,cardigan", [264, 474]),  # the dog, the jacket
        ("crane bird,crane", [134, 517]),  # torchvision's names
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
        ("semicolons.csv", "index;label;seed\n2;3;7\n0;1;8\n"),
        ("a.tsv", "index\tlabel\tseed\n2\t3\t7\n0\t1\t8\n"),
        ("gap.csv", "index,label,seed\n2.0,3.0,7\n0.0,1.0,8.\n"),
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


SYNSETS = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"
WNIDS = {"0": ["n01440764", "tench"], "134": ["n02012849", "crane"], "517": ["n03126707", "crane"]}


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("synset_words.txt", SYNSETS, [0, 134, 517]),
        ("wnids", "n01440764\nn02012849\n", [0, 134]),
        ("imagenet_class_index.json", json.dumps(WNIDS), [0, 134, 517]),
        ("of_wnid.json", json.dumps({"n02012849": ["134", "crane"], "n01440764": "tench"}), [134, 0]),
        ("names.json", '["tench", "volcano", 5]', [0, 980, 5]),
        ("of_number.json", '{"980": "volcano"}', [980]),
        ("numbered.txt", "0: tench\n134 crane\n517,crane\n", [0, 134, 517]),
        ("one_line.txt", "tench, goldfish,\n", [0, 1]),
        ("dict.txt", "{0: 'tench, Tinca tinca',\n 134: \"crane\",\n 1: 'goldfish, Carassius auratus'}\n", [0, 134, 1]),
        ("comments.txt", "# two\n3 # stingray\n134 crane  # the bird\n", [3, 134]),
        ("ranges.txt", '# animals\n0-3\n7,9\n\n"tench",\n', [0, 1, 2, 3, 7, 9, 0]),
        ("wnids.csv", "label\nn02012849\n", [134]),
    ],
)
def test_a_list_of_classes_as_people_have_it(tmp_path, name, content, labels):
    classes = read_class_list(write(tmp_path, name, content))
    assert classes.labels == labels and not classes.fixed and classes.named


def test_a_thousand_names_and_a_thousand_wordnet_ids_are_the_thousand_classes(tmp_path):
    wnids = list(imagenet_wnids())
    assert (wnids[0], wnids[207], wnids[999]) == ("n01440764", "n02099601", "n15075141")
    assert wnids == sorted(set(wnids)) and len(wnids) == 1000
    index = {str(label): [wnid, name] for label, (wnid, name) in enumerate(zip(wnids, imagenet_names()))}
    lists = {"l.txt": "\n".join(imagenet_names()), "w.txt": "\n".join(wnids), "l.json": json.dumps(imagenet_names())}
    for name, content in (lists | {"index.json": json.dumps(index)}).items():
        assert read_class_list(write(tmp_path, name, content)).labels == list(range(1000))
    assert read_class_list(imagenet_names()).labels == list(range(1000))
    assert read_class_list(",".join(imagenet_names())).labels == list(range(1000))


def test_an_error_shows_no_thousand_names(tmp_path):
    wrong = [*imagenet_names(), "no such thing"]
    for given in (
        wrong,
        ",".join(wrong),
        " ".join(wrong),
        write(tmp_path, "l.txt", ",".join(wrong)),
        write(tmp_path, "l.txt", " ".join(wrong)),
        write(tmp_path, "l.csv", ",".join(wrong)),
        write(tmp_path, "l.json", json.dumps([wrong])),
        write(tmp_path, "l.json", json.dumps({"0": wrong})),
        write(tmp_path, "m.json", json.dumps({"tench": wrong})),
    ):
        with pytest.raises(ValueError) as error:
            read_class_list(given)
        assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_a_list_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "l.txt", "3\n")
    assert read_class_list("~/l.txt").labels == [3]


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
        ("CARDIGAN", r"'CARDIGAN' names the classes 264 \(Cardigan, .*\) and 474 \(cardigan, .*\); give the number"),
        ("crane", r"'crane' names the classes 134 \(crane bird, n02012849\) and 517 \(crane, n03126707\); give the"),
        ("Maillot", r"'Maillot' names the classes 638 \(maillot, .*\) and 639 \(maillot tank suit, .*\); give the"),
        ("n00000001", "'n00000001' is not the WordNet id of one of ImageNet's 1,000 classes"),
        ("~nobody_of_that_name/labels.txt", "nor an existing file"),
        (["cat food"], "labels: 'cat food' is not an ImageNet class"),
        ([], "got none"),
        ("", "got ''"),
        ("1,,2", "got ''"),
        ("1,-2", "got '-2'"),
        ([-1], "got -1"),
        ([1.5], "got 1.5"),
        ([True], "got True"),
        (3.5, "labels: expected ints >= 0, ranges, names or a file, got 3.5"),
        ({1: 2}, "got {1: 2}"),
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
        ("l.json", '{"0": "tench", "1": "goldfish", "0": "tench"}', "expected each key once, got '0' twice"),
        ("l.json", "[]", "l.json: expected one or more labels, got none"),
        ("l.txt", "3\n\n-4\n", r"l.txt, line 3: expected a label \(an int >= 0\), got '-4'"),
        ("l.txt", "3\nvolcanoo\n", r"line 2: .*'volcanoo' is not an ImageNet class \(near: volcano"),
        (
            "l.txt",
            "0 goldfish\n",
            r"line 1: expected after 0 the name or the WordNet id of that class, or the number a",
        ),
        ("l.txt", "0 pullover\n", "line 1: expected after 0 the name .*got 'pullover'"),
        ("l.txt", "crane\ntench\n", "line 1: .*'crane' names the classes 134 .* and 517"),
        ("l.txt", "9-2\n", "line 1: the range '9-2' runs backwards"),
        ("l.json", '{"1": ["n01440764", "tench"]}', "entry '1': expected after 1 .*got 'n01440764'"),
        ("l.json", '{"tench": 0}', "entry 'tench': expected a class by its number or WordNet id.*got 0"),
        ("l.json", "{}", "expected one or more labels, got none"),
        ("l.json", "[[1]]", r"entry 1: expected a label \(an int >= 0\), got \[1\]"),
        ("l.txt", "3 4\n", "line 1: .*got '3 4'"),
        ("l.txt", "\n", "expected one label per line, got none"),
        ("l.csv", "label\n1\n2.5\n", r"l.csv, row 2: expected a label \(an int >= 0\), got '2.5'"),
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
        ("l.json", '[3, {"label": 4}]', "row 1: expected a mapping such as .*, got 3"),
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


def test_blanks_around_the_names_of_columns_and_their_case_mean_nothing(tmp_path):
    classes = read_class_list(write(tmp_path, "l.csv", "Label, seed\n1, 5\n"))
    assert (classes.labels, classes.seeds) == ([1], [5])


def test_what_is_no_table_is_named(tmp_path):
    (tmp_path / "l.parquet").write_text("nope")
    with pytest.raises(ValueError, match=r"l\.parquet cannot be read as a table with rows: Parquet"):
        read_class_list(str(tmp_path / "l.parquet"))
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ValueError, match=r"l\.txt is no text in UTF-8; save it as such\. Tables end in \.csv, "):
        read_class_list(str(tmp_path / "l.txt"))
    (tmp_path / "l.csv").write_text("label\n1\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"l\.csv is no text in UTF-8; save it as such"):
        read_class_list(str(tmp_path / "l.csv"))


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
