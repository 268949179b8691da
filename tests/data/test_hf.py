"""Sets that Hugging Face's ``datasets`` wrote to disk."""

import io
import itertools
import socket
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value
from PIL import Image

from sslnb.data import load, sources

NAMES = ["owl", "cat"]  # not in alphabetical order


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No progress bars, and no network: what is on disk has to be enough."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked for a server"))


def picture(shade: int, side: int = 6) -> Image.Image:
    return Image.new("RGB", (side, side), (shade, 0, 0))


def encoded(shade: int) -> bytes:
    buffer = io.BytesIO()
    picture(shade).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int = 20, first: int = 0, kind: object = None, **columns: object) -> Dataset:
    """Pictures of rising red, labels 0, 1, 0, … with names."""
    features = {"image": datasets.Image(), "label": kind or ClassLabel(names=NAMES)}
    data = {"image": [picture(first + i) for i in range(count)], "label": [i % 2 for i in range(count)]}
    return Dataset.from_dict(data | columns, Features(features))


def three() -> DatasetDict:
    return DatasetDict(train=rows(8), validation=rows(4, 100), test=rows(6, 200))


def shades(name: str, split: str, root: Path) -> list[int]:
    return load(name, split, root=root).images[:, 0, 0, 0].tolist()


def dictionary(at: Path) -> Path:
    three().save_to_disk(at)
    return at


def hub_files(at: Path) -> Path:
    """As on the Hub: data/SPLIT-00000-of-00002.parquet."""
    (at / "data").mkdir(parents=True)
    for split, part in three().items():
        for shard in range(2):
            half = part.shard(2, shard, contiguous=True)
            half.to_parquet(at / "data" / f"{split}-{shard:05d}-of-00002.parquet")
    return at


def converted_files(at: Path) -> Path:
    """As in the Hub's converted branch: default/SPLIT/0000.parquet."""
    for split, part in three().items():
        (at / "default" / split).mkdir(parents=True)
        part.to_parquet(at / "default" / split / "0000.parquet")
    return at


@pytest.mark.parametrize("write", [dictionary, hub_files, converted_files])
def test_official_splits_are_taken_as_they_are(tmp_path, write):
    name = f"hf:{write(tmp_path / 'birds')}"
    assert shades(name, "train", tmp_path) == list(range(8))
    assert shades(name, "val", tmp_path) == list(range(100, 104))
    assert shades(name, "test", tmp_path) == list(range(200, 206))
    part = load(name, root=tmp_path)
    assert part.classes == ("owl", "cat") and part.labels.tolist() == [0, 1] * 4 and part.name == "birds"


def one_set(at: Path) -> Path:
    rows(40).save_to_disk(at)
    return at


def one_file(at: Path) -> Path:
    rows(40).to_parquet(at.with_suffix(".parquet"))
    return at.with_suffix(".parquet")


def loose_files(at: Path) -> Path:
    at.mkdir()
    for shard in range(2):
        rows(20, 20 * shard).to_parquet(at / f"part{shard}.parquet")
    return at


def selected(at: Path) -> Path:
    rows(80).select(range(40)).save_to_disk(at)
    return at


@pytest.mark.parametrize("write", [one_set, one_file, loose_files, selected])
def test_a_single_set_is_divided_like_any_other(tmp_path, write):
    name = f"hf:{write(tmp_path / 'birds')}"
    parts = [shades(name, split, tmp_path) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [32, 4, 4] and sorted(itertools.chain(*parts)) == list(range(40))
    assert load(name, root=tmp_path).name == "birds"


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([7, 300] * 10, ("7", "300")),
        ([-1, 10**12] * 10, ("-1", "1000000000000")),
        ([True, False] * 10, ("False", "True")),
        (["b", "a"] * 10, ("a", "b")),
    ],
)
@pytest.mark.parametrize("write", ["save_to_disk", "to_parquet"])
def test_labels_without_names_become_classes_by_value(tmp_path, labels, classes, write):
    kind = {int: "int64", bool: "bool", str: "string"}[type(labels[0])]
    at = tmp_path / "birds.parquet"
    getattr(rows(20, kind=Value(kind)).remove_columns("label").add_column("label", labels), write)(at)
    part = load(f"hf:{at}", root=tmp_path)
    assert part.classes == classes and [part.classes[k] for k in part.labels[:1]] == [
        str(labels[part.images[0, 0, 0, 0]])
    ]


@pytest.mark.parametrize(
    "column",
    [
        [encoded(i) for i in range(20)],
        [{"bytes": encoded(i), "path": None} for i in range(20)],
        [{"bytes": encoded(i), "path": f"{i}.png"} for i in range(20)],
    ],
)
def test_parquet_files_of_other_programs_are_read(tmp_path, column):
    table = pyarrow.table({"img": column, "label": ["a", "b"] * 10})
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    assert shades(f"hf:{tmp_path}/test.parquet", "test", tmp_path) == list(range(20))


@pytest.mark.parametrize("inside", [True, False])
def test_pictures_that_a_set_only_points_to_are_read_from_their_files(tmp_path, inside):
    (tmp_path / "birds").mkdir()
    for i in range(4):
        picture(i).save(tmp_path / "birds" / f"{i}.png")
    paths = [f"{i}.png" if inside else str(tmp_path / "birds" / f"{i}.png") for i in range(4)]
    table = pyarrow.table({"image": [{"bytes": None, "path": p} for p in paths], "label": [0, 1] * 2})
    pyarrow.parquet.write_table(table, tmp_path / "birds" / "test.parquet")
    assert shades(f"hf:{tmp_path}/birds", "test", tmp_path) == [0, 1, 2, 3]
    (tmp_path / "birds" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"birds, test, image, row 2: expected the bytes .*, or a file that is there"):
        load(f"hf:{tmp_path}/birds", "test", root=tmp_path)


def test_of_several_columns_the_one_asked_for_is_read(tmp_path):
    part = rows(20).rename_column("label", "fine").add_column("coarse", [0, 0, 1, 1] * 5)
    part = part.cast_column("coarse", ClassLabel(names=["x", "y"])).add_column("spare", [0] * 20)
    DatasetDict(test=part).save_to_disk(tmp_path / "birds")
    with pytest.raises(ValueError, match=r"one column of labels \(or hf:PATH\?label=COLUMN\), got fine, coarse among"):
        load(f"hf:{tmp_path}/birds", "test", root=tmp_path)
    assert load(f"hf:{tmp_path}/birds?label=coarse", "test", root=tmp_path).classes == ("x", "y")
    named = load(f"hf:{tmp_path}/birds?image=image&label=fine", "test", root=tmp_path)
    assert named.classes == ("owl", "cat") and named.name == "birds"
    with pytest.raises(ValueError, match=r"birds: expected one of .*'coarse'.*got 'corse'; did you mean 'coarse'"):
        load(f"hf:{tmp_path}/birds?label=corse", "test", root=tmp_path)
    with pytest.raises(ValueError, match=r"^name: expected one of .*got 'lable'; did you mean 'label'"):
        load(f"hf:{tmp_path}/birds?lable=fine", "test", root=tmp_path)


def test_unlabeled_splits_are_for_pretraining(tmp_path):
    DatasetDict(train=rows(8), test=rows(4), unsupervised=rows(5, 90, kind=Value("int64"))).cast_column(
        "label", ClassLabel(names=NAMES)
    ).save_to_disk(tmp_path / "birds")
    part = load(f"hf:{tmp_path}/birds", "unlabeled", root=tmp_path)
    assert part.unlabeled and len(part) == 5 and part.classes == ("owl", "cat")


def test_pictures_are_read_as_those_in_folders_are(tmp_path):
    """16 bits, transparency and sizes, by the one reader; a limit decodes what it keeps."""
    buffer = io.BytesIO()
    Image.new("RGBA", (9, 12), (0, 0, 0, 0)).save(buffer, "PNG")
    table = pyarrow.table({"image": [encoded(0), buffer.getvalue()], "label": [0, 1]})
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"row 1: expected the 6×6 px of .*row 0 .*got 9×12 px"):
        load(f"hf:{tmp_path}/test.parquet", "test", root=tmp_path)
    images = load(f"hf:{tmp_path}/test.parquet", "test", root=tmp_path, size=4).images
    assert images.shape == (2, 3, 4, 4) and images[1].min() == 255


def saved(part: object, at: Path) -> Path:
    part.save_to_disk(at)
    return at


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (rows(8, kind=Value("float32")), "label: expected integers, booleans or text, one label per image, got float"),
        (rows(8, kind=Sequence(Value("int64")), label=[[0, 1]] * 8), "one label per image, got list"),
        (rows(8, label=[0, None] * 4), "label: expected a label in every row, got none in row 1"),
        (
            rows(8, label=[0, -1] * 4),
            "label: expected labels in 0..1, one of 2 classes, got labels from -1 to 0",
        ),
        (rows(8, label=[0] * 8), "label: expected an image of every class, got none of cat"),
        (rows(8, image=[None] * 8), "image, row 0: expected the bytes of a picture, got none"),
        (rows(8).remove_columns("label"), r"expected one column of labels .*got none among image"),
        (rows(8).remove_columns("image"), r"expected one column of images .*got none among label"),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(tmp_path, part, expected):
    at = saved(DatasetDict(test=part), tmp_path / "birds")
    with pytest.raises(ValueError, match=rf"birds.*{expected}"):
        load(f"hf:{at}", "test", root=tmp_path)


def test_an_empty_split_is_named(tmp_path):
    rows(0).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"test.parquet: expected splits of at least one row, got \['test'\]"):
        load(f"hf:{tmp_path}/test.parquet", "test", root=tmp_path)


def test_splits_of_other_names_are_refused(tmp_path):
    saved(DatasetDict(train=rows(4), extra=rows(4)), tmp_path / "birds")
    with pytest.raises(ValueError, match=r"expected splits called train, validation or test .*got \['extra'\]"):
        load(f"hf:{tmp_path}/birds", root=tmp_path)
    saved(DatasetDict(train=rows(4), val=rows(4), validation=rows(4)), tmp_path / "twice")
    with pytest.raises(ValueError, match=r"expected each split once"):
        load(f"hf:{tmp_path}/twice", root=tmp_path)


def test_files_of_which_only_some_tell_their_split_are_refused(tmp_path):
    for name in ("train", "more"):
        rows(4).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"a split in each file's name, .*, got \['more.parquet'\]"):
        load(f"hf:{tmp_path}", root=tmp_path)


def test_splits_that_name_their_classes_differently_are_refused(tmp_path):
    rows(4).to_parquet(tmp_path / "train.parquet")
    rows(4, kind=ClassLabel(names=["cat", "owl"])).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"label: expected the classes of the other splits, got \['(cat|owl)', "):
        load(f"hf:{tmp_path}", root=tmp_path)


def test_paths_that_datasets_did_not_write_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    for place in ("empty", "a.txt"):
        with pytest.raises(
            ValueError, match=rf"{place}: expected a folder that datasets' save_to_disk wrote, or .parquet"
        ):
            load(f"hf:{tmp_path}/{place}", root=tmp_path)
    with pytest.raises(
        ValueError, match=r"^name: expected a folder that datasets wrote, or Parquet files, got 'no/such'"
    ):
        load("hf:no/such", root=tmp_path)


def test_damaged_files_are_named_in_one_line(tmp_path):
    whole = one_file(tmp_path / "birds")
    content = whole.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"PAR1" + content[4:-8] + b"\xff" * 8):
        whole.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"birds\.parquet: expected what datasets wrote, whole, got [^\n]+$"):
            load(f"hf:{whole}", root=tmp_path)
    (arrow,) = saved(rows(8), tmp_path / "folder").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"folder: expected what datasets wrote, whole, got [^\n]+$"):
        load(f"hf:{tmp_path}/folder", root=tmp_path)


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    at = one_set(tmp_path / "birds")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ValueError, match=r"^name: expected the package datasets .*\(pip install datasets\), got [^\n]+$"
    ):
        sources.resolve(f"hf:{at}", tmp_path, None)


def test_reading_leaves_nothing_but_the_decoded_pictures(tmp_path, monkeypatch):
    at, home = one_file(tmp_path / "birds"), tmp_path / "home"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home)
    load(f"hf:{at}", root=tmp_path / "root", size=4)
    assert not home.exists() and [p.name for p in (tmp_path / "root").iterdir()] == [".decoded"]


def test_labels_of_any_length_cost_what_they_are_long(tmp_path):
    texts = np.array(["x" * 10**6, "y"] * 10, dtype=object)
    table = pyarrow.table({"image": [encoded(i) for i in range(20)], "label": texts})
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    assert load(f"hf:{tmp_path}/test.parquet", "test", root=tmp_path).classes[1] == "y"
