"""Folders of pictures: which layouts are found, and that nothing is left aside in silence."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from sslnb.data import ImageSet, load, sources


def write_picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)
    return path


def whole(tree: Path, root: Path, splits=("train", "val", "test")) -> list[ImageSet]:
    """All splits; any warning fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [load(f"folder:{tree}", split, root=root) for split in splits]


@pytest.fixture
def split_tree(tmp_path):
    """A test split, so that nothing is carved off it, of two classes."""
    for i, place in enumerate(("ant/a.png", "bee/b.png")):
        write_picture(tmp_path / "photos" / "test" / place, i)
    return tmp_path / "photos"


# --- classes


@pytest.mark.parametrize(
    "places",
    [
        ["ant/1.png", "ant/2.png", "bee/1.png"],
        ["ant/2020/1.png", "ant/2021/1.png", "ant/0.png", "bee/x/y/z.png"],
        ["ant/a/b/1.png", "ant/a-x/1.png", "ant/a/1.png", "ant/z.png", "bee/B.PNG", "bee/a.png"],  # odd orders
        ["10/1.png", "9/1.png", "Z/1.png", "a/1.png"],
    ],
)
def test_classes_and_their_order_are_those_of_imagefolder(tmp_path, places):
    tree = tmp_path / "photos" / "test"
    for i, place in enumerate(places):
        write_picture(tree / place, i)
    (part,), folder = whole(tmp_path / "photos", tmp_path, ["test"]), ImageFolder(str(tree))
    assert part.classes == tuple(folder.classes) and part.labels.tolist() == folder.targets
    assert part.images[:, 0, 0, 0].tolist() == [int(np.asarray(picture)[0, 0, 0]) for picture, _ in folder]


def test_every_picture_of_35_in_folders_and_subfolders_is_read(tmp_path):
    for i in range(35):
        write_picture(tmp_path / "photos" / ("ant", "bee")[i % 2] / ("", "old", "new/2024")[i % 3] / f"{i}.png", i)
    parts = whole(tmp_path / "photos", tmp_path)
    assert sorted(shade for part in parts for shade in part.images[:, 0, 0, 0].tolist()) == list(range(35))


def test_a_class_in_a_linked_folder_is_read(split_tree):
    elsewhere = write_picture(split_tree.parent / "elsewhere" / "c.png").parent
    (split_tree / "test" / "cow").symlink_to(elsewhere)
    assert whole(split_tree, split_tree.parent, ["test"])[0].classes == ("ant", "bee", "cow")


def test_one_folder_too_many_is_suspected(tmp_path):
    for place in ("photos/ant/1.png", "photos/bee/2.png"):
        write_picture(tmp_path / "top" / "test" / place)
    with pytest.warns(UserWarning, match=r"one class, 'photos'; if its folders \(ant, bee, …\) are the classes, name"):
        load(f"folder:{tmp_path}/top", "test", root=tmp_path)


# --- what is left aside


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("test/ant/notes.txt", r"1 file: 1 with other suffixes \(test/ant/notes.txt\)"),
        ("test/ant/deep/er/noext", r"1 file: 1 with other suffixes \(test/ant/deep/er/noext\)"),
        ("test/ant/.hidden.png", r"1 file: 1 hidden \(test/ant/.hidden.png\)"),
        ("test/.cache/x.png", r"1 file: 1 hidden \(test/.cache/\)"),
        ("__MACOSX/x.png", r"1 file: 1 hidden \(__MACOSX/\)"),
        ("test/ant/phone.JXL", r"1 file: 1 in picture formats that are not read \(test/ant/phone.JXL\)"),
        ("test/stray.png", r"1 file: 1 outside class folders \(test/stray.png\)"),
        ("stray.jpg", r"1 file: 1 outside class folders \(stray.jpg\)"),
        ("README.md", r"1 file: 1 with other suffixes \(README.md\)"),
        ("labels.csv", r"1 file: 1 with other suffixes \(labels.csv\)"),
    ],
)
def test_each_file_that_is_not_read_is_named_with_its_reason(split_tree, place, words):
    (split_tree / place).parent.mkdir(parents=True, exist_ok=True)
    (split_tree / place).touch()
    with pytest.warns(UserWarning, match=f"^folder photos: left aside {words}$"):
        assert len(load(f"folder:{split_tree}", "test", root=split_tree.parent)) == 2


def test_files_left_aside_are_counted_by_reason_in_one_line(tmp_path):
    for i in range(40):
        write_picture(tmp_path / "photos" / f"c{i % 2}" / f"{i}.png")
    for name in ("a.txt", "b.txt", "c.md", "d.xml", ".e.png"):
        (tmp_path / "photos" / "c0" / name).touch()
    os.mkfifo(tmp_path / "photos" / "c1" / "pipe.png")
    with pytest.warns() as caught:
        load(f"folder:{tmp_path}/photos", root=tmp_path)
    assert [str(warning.message) for warning in caught] == [
        "folder photos: left aside 6 files: 1 hidden (c0/.e.png), 4 with other suffixes (c0/a.txt, c0/b.txt, c0/c.md, "
        "…), 1 neither file nor folder (c1/pipe.png)"
    ]


SUFFIXES = [
    "png",
    "jpg",
    "jpeg",
    "jfif",
    "webp",
    "bmp",
    "gif",
    "tif",
    "tiff",
    "ppm",
    "pgm",
    "pbm",
    "avif",
    "JPG",
    "Png",
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_common_formats_are_read(split_tree, suffix):
    file = split_tree / "test" / "ant" / f"new.{suffix}"
    Image.new("1" if suffix == "pbm" else "L", (8, 8)).save(file)
    assert len(whole(split_tree, split_tree.parent, ["test"])[0]) == 3


def test_a_class_of_nothing_but_other_files_says_what_it_holds(split_tree):
    (split_tree / "test" / "cow").mkdir()
    (split_tree / "test" / "cow" / "a.heix").touch()
    with pytest.raises(
        ValueError, match=r"test/cow: expected at least one picture .*got 1 with other suffixes \(test/"
    ):
        load(f"folder:{split_tree}", "test", root=split_tree.parent)


# --- damage


@pytest.mark.parametrize("place", ["test/ant/gone.png", "test/gone", "gone.png", "test/ant/deep/gone.png"])
def test_a_broken_link_is_named(split_tree, place):
    (split_tree / place).parent.mkdir(exist_ok=True)
    (split_tree / place).symlink_to("/no/such/file.png")
    with pytest.raises(
        ValueError, match=rf"{place}: expected a file or folder, got a broken link to /no/such/file.png"
    ):
        load(f"folder:{split_tree}", "test", root=split_tree.parent)


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_to_a_folder_that_holds_it_is_named(split_tree, target):
    (split_tree / "test" / "ant" / "loop").symlink_to(target)
    with pytest.raises(ValueError, match=r"ant/loop: expected a folder of its own, got a link to one that holds it"):
        load(f"folder:{split_tree}", "test", root=split_tree.parent)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"P6 20000 20000 255\n", b"<svg/>"])
def test_damaged_pictures_and_bombs_are_named(split_tree, content):
    (split_tree / "test" / "bee" / "new.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"test/bee/new\.png: expected a readable picture"):
        load(f"folder:{split_tree}", "test", root=split_tree.parent)


# --- splits


@pytest.mark.parametrize(
    "names",
    [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "VALID", "Test"), ("TRAIN", "Val", "")],
)
def test_folders_of_splits_go_by_several_names_in_any_case(tmp_path, names):
    for k, name in enumerate(filter(None, names)):
        for i in range(4):
            write_picture(tmp_path / "photos" / name / f"c{i % 2}" / f"{i}.png", k)
    for k, split in enumerate(("train", "val", "test")[: len(list(filter(None, names)))]):
        assert set(whole(tmp_path / "photos", tmp_path, [split])[0].images.unique().tolist()) == {k}
    found = sources.resolve(f"folder:{tmp_path}/photos", tmp_path, None)
    assert found.splits == ("train", "val", "test")[: len(list(filter(None, names)))]


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "valid"),
        ("train", "test", "extra"),
        ("val", "test", "other"),
        ("train", "unlabeled"),
        ("train", "dev"),
        ("val", "valid"),
    ],
)
def test_folders_that_are_no_splits_beside_some_that_are_get_refused(tmp_path, names):
    for name in names:
        write_picture(tmp_path / "photos" / name / "c" / "1.png")
    with pytest.raises(ValueError, match=rf"photos: expected one folder per split and no others, got .*'{names[-1]}'"):
        load(f"folder:{tmp_path}/photos", root=tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for i in range(30):
        write_picture(tmp_path / "photos" / ("bus", "car", "train")[i % 3] / f"{i}.png")
    assert whole(tmp_path / "photos", tmp_path)[0].classes == ("bus", "car", "train")


# --- tables of labels


def table(tree: Path, text: str, name: str = "labels.csv", count: int = 4, below: str = "") -> Path:
    """A folder of pictures 0.png, 1.png, … and a table beside them."""
    for i in range(count):
        write_picture(tree / below / f"{i}.png", i)
    (tree / name).write_text(text)
    return tree


ROWS = [("0.png", "owl"), ("1.png", "cat"), ("2.png", "owl"), ("3.png", "cat")]
PLAIN = "file,label\n" + "".join(f"{file},{label}\n" for file, label in ROWS)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (PLAIN, {}),
        (PLAIN, {"name": "anything.CSV"}),
        (PLAIN.replace("file,label", "Image,Species"), {}),
        (PLAIN.replace(",", ";"), {}),
        (PLAIN.replace(",", "\t"), {}),
        (PLAIN.replace("\n", "\r\n"), {}),
        ("\ufeff" + PLAIN, {}),
        (PLAIN.partition("\n")[2], {}),
        ("\ufeff" + PLAIN.partition("\n")[2], {}),
        (PLAIN.replace(".png", ""), {}),
        (PLAIN.replace(".png,", ".png , "), {}),
        ("id,class,file_name,note\n" + "".join(f"{i * 9},{c},{f},\n" for i, (f, c) in enumerate(ROWS)), {}),
        (PLAIN, {"below": "images"}),
        (PLAIN.replace("\n", "\nimages/").removesuffix("images/"), {"below": "images"}),
    ],
)
def test_a_table_labels_the_pictures_beside_it(tmp_path, text, options):
    table(tmp_path / "photos" / "test", text, **options)
    (part,) = whole(tmp_path / "photos", tmp_path, ["test"])
    assert part.classes == ("cat", "owl") and part.labels.tolist() == [1, 0, 1, 0]
    assert part.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", [".png", ""])
@pytest.mark.parametrize("header", ["", "label,id\n"])
def test_labels_that_read_like_names_of_pictures_are_still_labels(tmp_path, suffix, header):
    table(tmp_path / "photos" / "test", header + "".join(f"{(i + 1) % 2},{i}{suffix}\n" for i in range(4)))
    (part,) = whole(tmp_path / "photos", tmp_path, ["test"])
    assert part.classes == ("0", "1") and part.labels.tolist() == [1, 0, 1, 0]


def test_names_with_suffix_tell_the_column_of_files(tmp_path):
    table(tmp_path / "photos" / "test", "1,0.png\n0,1.png\n", count=2)
    assert whole(tmp_path / "photos", tmp_path, ["test"])[0].classes == ("0", "1")


def test_a_table_at_the_top_is_split_like_any_other_set(tmp_path):
    table(tmp_path / "photos", "".join(f"{i}.png,{(10, 9, -1)[i % 3]}\n" for i in range(60)), count=60)
    parts = whole(tmp_path / "photos", tmp_path)
    assert [len(part) for part in parts] == [48, 6, 6] and parts[0].classes == ("-1", "9", "10")
    assert all((part.images[:, 0, 0, 0] % 3 == 2 - part.labels).all() for part in parts)


def test_a_column_of_splits_divides_the_table(tmp_path):
    table(tmp_path / "photos", "".join(f"{i}.png,{i % 2},{('Train', 'valid')[i > 5]}\n" for i in range(8)), count=8)
    text = (tmp_path / "photos" / "labels.csv").read_text()
    (tmp_path / "photos" / "labels.csv").write_text("file,label,split\n" + text)
    assert load(f"folder:{tmp_path}/photos", "val", root=tmp_path).images[:, 0, 0, 0].tolist() == [6, 7]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            PLAIN + "4.png,owl\n9.png,owl\n",
            r"names of pictures .*got 2 that are not: '4.png' in row 6, '9.png' in row 7",
        ),
        ("9.png,owl\n" + PLAIN.partition("\n")[2], r"got 1 that are not: '9.png' in row 1"),
        (PLAIN + "0.png,cat\n", r"row 6: expected each picture once, got '0.png' again"),
        (PLAIN.replace("1.png,cat", "1.png,"), r"row 3: expected a label, got none for '1.png'"),
        (PLAIN.replace("1.png,cat", "1.png"), r"row 3: expected 2 cells, got 1"),
        ("file,cat,owl\n0.png,0,1\n", r"one column of labels.*got columns file, cat, owl"),
        ("label,other\ncat,owl\n", r"a column that names pictures"),
        ("file,label,split\n0.png,cat,holdout\n", r"row 2: expected train, val or test as split, got 'holdout'"),
        ("", "at least one row"),
        ("file,label\n", "at least one row below its header"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path, text, expected):
    with pytest.raises(ValueError, match=rf"labels\.csv.*{expected}"):
        load(f"folder:{table(tmp_path / 'photos', text)}", root=tmp_path)


def test_a_name_that_several_pictures_have_is_refused(tmp_path):
    tree = table(tmp_path / "photos" / "test", PLAIN + "more/0.png,cat\n")
    write_picture(tree / "more" / "0.png")
    assert len(whole(tree.parent, tmp_path, ["test"])[0]) == 5  # paths are of one picture each
    for place in ("again/7.png", "more/7.png"):
        write_picture(tree / place)
    (tree / "labels.csv").write_text(PLAIN + "7.png,cat\n")
    with pytest.raises(ValueError, match=r"one picture each, got names of several: '7.png' in row 6"):
        load(f"folder:{tree.parent}", "test", root=tmp_path)


def test_pictures_without_class_folders_or_a_table_are_refused(tmp_path):
    write_picture(tmp_path / "photos" / "1.png")
    with pytest.raises(ValueError, match=r"one folder per class, or pictures and one .csv of labels, got 1 outside"):
        load(f"folder:{tmp_path}/photos", root=tmp_path)


def test_pictures_without_a_row_are_named(tmp_path):
    tree = table(tmp_path / "photos" / "test", PLAIN, count=6)
    with pytest.warns(UserWarning, match=r"aside 2 files: 2 without a row in labels.csv \(test/4.png, test/5.png\)$"):
        assert len(load(f"folder:{tree.parent}", "test", root=tmp_path)) == 4


def test_which_of_several_tables_counts_has_to_be_said(tmp_path):
    table(tmp_path / "photos", PLAIN, "a.csv")
    table(tmp_path / "photos", PLAIN, "b.csv")
    with pytest.raises(ValueError, match=r"photos: expected one .csv of labels, or one called labels.csv"):
        load(f"folder:{tmp_path}/photos", root=tmp_path)
