"""MedMNIST's files as they are published, labels of any value, and images that are not bytes."""

import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sslnb.data import ImageSet, load
from sslnb.data.labels import classes_of

SPLITS = ("train", "val", "test")


def medmnist(path: Path, classes: int, colour: bool, side: int = 28, **changes: np.ndarray) -> Path:
    """A file with the keys, dtypes and shapes of a 2D set, and three images per class in each split."""
    rng, count = np.random.default_rng(0), 3 * classes
    arrays = {}
    for split in SPLITS:
        shape = (count, side, side, 3) if colour else (count, side, side)
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = rng.permutation(np.arange(count) % classes)[:, None].astype(np.uint8)
    np.savez_compressed(path, **(arrays | changes))
    return path


# name, classes, colour: https://medmnist.com
SETS = [
    ("pathmnist", 9, True),
    ("dermamnist", 7, True),
    ("octmnist", 4, False),
    ("pneumoniamnist", 2, False),
    ("retinamnist", 5, True),
    ("breastmnist", 2, False),
    ("bloodmnist", 8, True),
    ("tissuemnist", 8, False),
    ("organamnist", 11, False),
    ("organcmnist", 11, False),
    ("organsmnist", 11, False),
]


@pytest.mark.parametrize(("name", "classes", "colour"), SETS)
def test_each_2d_set_of_medmnist_is_read_as_published(tmp_path, name, classes, colour):
    path = medmnist(tmp_path / f"{name}.npz", classes, colour)
    for split in SPLITS:
        part = load(f"npz:{path}", split)
        assert part.images.shape == (3 * classes, 3 if colour else 1, 28, 28)
        assert part.classes == tuple(map(str, range(classes)))
        with np.load(path) as file:
            assert part.labels.tolist() == file[f"{split}_labels"][:, 0].tolist()
            assert part.images[0, 0, 1, 2] == (file[f"{split}_images"][(0, 1, 2, 0) if colour else (0, 1, 2)])
    assert load(name, root=tmp_path).checksum() == load(str(path)).checksum()


@pytest.mark.parametrize("side", [28, 64, 128, 224])
@pytest.mark.parametrize("colour", [False, True])
def test_every_size_of_medmnist_is_read(tmp_path, side, colour):
    path = medmnist(tmp_path / f"bloodmnist_{side}.npz", 2, colour, side)
    assert load(str(path), "val").images.shape[2:] == (side, side)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_several_labels_per_image_are_refused_with_the_reason(tmp_path, dtype):
    labels = np.random.default_rng(0).integers(0, 2, (42, 14)).astype(dtype)
    path = medmnist(tmp_path / "chestmnist.npz", 14, False, **{f"{s}_labels": labels for s in SPLITS})
    wanted = (
        r"chestmnist\.npz, train_labels: expected .*one label per image: no study takes several.*got shape \[42, 14\]"
    )
    with pytest.raises(ValueError, match=wanted):
        load(str(path))


def test_volumes_are_refused(tmp_path):
    path = medmnist(tmp_path / "organmnist3d.npz", 2, False, train_images=np.zeros((6, 28, 28, 28), np.uint8))
    with pytest.raises(ValueError, match=r"train_images: expected .*volumes are not pictures.*got shape"):
        load(str(path))


# --- labels


def labelled(path: Path, labels: np.ndarray, **more: np.ndarray) -> Path:
    """These labels for 2 × 2 images, in every split."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None] + np.zeros((1, 2, 2), np.uint8)
    arrays = {f"{split}_{key}": a for split in SPLITS for key, a in (("images", images), ("labels", labels))}
    np.savez(path, **(arrays | more))
    return path


def by_name(part: ImageSet) -> list[str]:
    return [part.classes[k] for k in part.labels.tolist()]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([7, 10, 300, 7], ("7", "10", "300")),
        ([-1, 1, -1, 1], ("-1", "1")),
        ([-5, 0, -12], ("-12", "-5", "0")),
        ([10**9, 3, 10**9], ("3", "1000000000")),
        (np.array([2**64 - 1, 2**63, 5], np.uint64), ("5", str(2**63), str(2**64 - 1))),
        (np.array([-(2**63), 2**63 - 1]), (str(-(2**63)), str(2**63 - 1))),
        (np.array([-128, 127], np.int8), ("-128", "127")),
        ([True, False, True], ("False", "True")),
        (["cat", "ant", "bee", "ant"], ("ant", "bee", "cat")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1", "x", "10", "9"], ("1", "10", "9", "x")),
        ([[3], [8], [3]], ("3", "8")),
    ],
)
def test_labels_of_any_value_become_classes_named_by_it(tmp_path, labels, classes):
    labels = np.asarray(labels)
    part = load(str(labelled(tmp_path / "a.npz", labels)))
    assert part.classes == classes and by_name(part) == [str(value) for value in labels.reshape(-1).tolist()]


def test_no_number_in_a_file_decides_how_much_memory_is_taken(tmp_path):
    path = labelled(tmp_path / "a.npz", np.array([0, 10**9, 2**62]))
    tracemalloc.start()
    assert load(str(path)).classes == ("0", str(10**9), str(2**62))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_a_value_is_the_same_class_in_every_split(tmp_path):
    val, images = np.array([300, 7]), np.zeros((2, 2, 2), np.uint8)
    path = labelled(tmp_path / "a.npz", np.array([7, 10, 300]), val_labels=val, val_images=images)
    assert load(str(path), "val").classes == ("7", "10", "300") and load(str(path), "val").labels.tolist() == [2, 0]


def test_numbers_of_different_dtypes_are_one_kind_exactly():
    big = 2**53 + 1  # lost where integers meet as floats
    classes, labels = classes_of({"a": np.array([big], np.uint64), "b": np.array([big, -1], np.int64)})
    assert classes == ("-1", str(big)) and labels["b"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "changes", "expected"),
    [
        ([0.0, 1.0], {}, "train_labels: expected text, booleans or integers, got dtype float64"),
        (["a", ""], {}, "train_labels: expected a label for every image, got empty text at position 1"),
        ([1, 2], {"test_labels": ["a", "b"]}, "test_labels: expected integers, as .*train_labels, got text"),
        ([0, 1], {"val_labels": [True, False]}, "val_labels: expected integers, as .*train_labels, got booleans"),
        ([1, 2], {"test_labels": [1, 3]}, "train_labels: expected an image of every class, got none of 3"),
        (
            [1, 2],
            {"classes": ["x", "y"]},
            r"train_labels: expected labels in 0..1, one of 2 classes, got labels from 1",
        ),
        (["x", "z"], {"classes": ["x", "y"]}, r"train_labels: expected names among the 2 classes.*got \['z'\]"),
    ],
)
def test_labels_that_are_no_classes_are_refused_by_key(tmp_path, labels, changes, expected):
    path = labelled(tmp_path / "a.npz", np.asarray(labels), **{key: np.asarray(v) for key, v in changes.items()})
    with pytest.raises(ValueError, match=rf"a\.npz, {expected}"):
        load(str(path))


@pytest.mark.parametrize(("labels", "names"), [([1, 0], "yx"), (["y", "x"], "yx"), ([True, False], "yx")])
def test_given_classes_keep_their_order(tmp_path, labels, names):
    part = load(str(labelled(tmp_path / "a.npz", np.asarray(labels), classes=np.array(["x", "y"]))))
    assert part.classes == ("x", "y") and "".join(by_name(part)) == names


# --- images


BYTES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3))


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        *((BYTES.astype(dtype), BYTES) for dtype in ("uint16", "int32", "int64", "float16", "float32", "float64")),
        ((BYTES / 255).astype(np.float16), BYTES),
        ((BYTES / 255).astype(np.float32), BYTES),
        (BYTES / 255, BYTES),
        (BYTES * 0.999, np.rint(BYTES * 0.999)),
        (np.minimum(BYTES, 3).astype(np.float32), np.minimum(BYTES, 3)),
    ],
)
def test_images_of_other_dtypes_are_brought_to_bytes_by_the_scale_they_tell(tmp_path, stored, wanted):
    path = labelled(tmp_path / "a.npz", np.arange(6) % 2, train_images=stored)
    images = load(str(path)).images
    assert images.dtype == torch.uint8 and np.array_equal(images.permute(0, 2, 3, 1), wanted)


RISING = np.linspace(0, 1, 6 * 20).reshape(6, 4, 5)


@pytest.mark.parametrize(
    ("stored", "got"),
    [
        (RISING * 2 - 1, "float64 with values from -1 to 1"),
        ((RISING - 0.5) * 4, "float64 with values from -2 to 2"),
        (RISING * 256, "float64 with values from 0 to 256"),
        (RISING * 1.02, "float64 with values from 0 to 1.02 and fractions (0 to 255, or 0 to 1?)"),
        (RISING * 100.5, "float64 with values from 0 to 100.5 and fractions (0 to 255, or 0 to 1?)"),
        (np.rint(RISING), "float64 with values from 0 to 1 and no fractions (0 to 255, or 0 to 1?)"),
        (RISING * 0, "float64 with values from 0 to 0 and no fractions (0 to 255, or 0 to 1?)"),
        (np.where(RISING > 0.5, np.nan, RISING), "float64 with values from nan to nan"),
        (np.where(RISING > 0.5, np.inf, RISING), "float64 with values from 0 to inf"),
        ((RISING * 65_535).astype(np.uint16), "uint16 with values from 0 to 65535"),
        ((RISING * 255 - 9).astype(np.int16), "int16 with values from -9 to 246"),
        (RISING > 0.5, "bool"),
    ],
)
def test_images_whose_scale_is_not_told_are_refused(tmp_path, stored, got):
    path = labelled(tmp_path / "a.npz", np.arange(6) % 2, train_images=stored)
    with pytest.raises(ValueError, match=rf"train_images: expected dtype uint8.*, got dtype {re.escape(got)}"):
        load(str(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_of_many_images_only_those_asked_for_are_held(tmp_path, save, dtype):
    rng, count, row = np.random.default_rng(0), 20_000, 32 * 32 * 3
    images = np.zeros((count, 32, 32, 3), dtype)
    images[:, 0, 0, 0] = rng.integers(0, 256, count) / (1 if dtype == np.uint8 else 256)
    masks = images[..., 0] > 0.3
    labels = np.arange(count) % 4
    save(tmp_path / "many.npz", train_images=images, train_labels=labels, train_masks=masks)
    whole = load(f"npz:{tmp_path / 'many.npz'}")
    tracemalloc.start()
    part = load(f"npz:{tmp_path / 'many.npz'}", limit=200)
    few = load(f"npz:{tmp_path / 'many.npz'}", "val", classes=["2"], limit=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 18e6 < count * row  # 61 MB of bytes, 246 MB of floats
    assert len(part) == 200 and len(few) == 50 and set(few.labels.tolist()) == {0}
    again = whole.take(200)
    assert (part.images == again.images).all() and (part.masks == again.masks).all()


def test_reading_all_holds_images_once(tmp_path):
    images = np.zeros((20_000, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "many.npz", train_images=images, train_labels=np.arange(20_000) % 4)
    tracemalloc.start()
    load(f"npz:{tmp_path / 'many.npz'}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * images.nbytes


def test_arrays_in_fortrans_order_are_the_same_images(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 8, 8, 3), np.uint8), np.arange(30) % 3
    for name, order in (("c", np.ascontiguousarray), ("f", np.asfortranarray)):
        np.savez(tmp_path / f"{name}.npz", train_images=order(images), train_labels=labels)
    assert load(f"npz:{tmp_path / 'c.npz'}").checksum() == load(f"npz:{tmp_path / 'f.npz'}").checksum()


def test_a_damaged_byte_among_images_that_are_not_asked_for_is_found(tmp_path):
    images, labels = np.zeros((60, 8, 8, 3), np.uint8), np.arange(60) % 3
    images[-1] = 77
    np.savez(tmp_path / "sound.npz", train_images=images, train_labels=labels)
    sound = (tmp_path / "sound.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(sound.replace(bytes([77] * 20), bytes([78] * 20), 1))
    assert len(load(f"npz:{tmp_path / 'sound.npz'}", limit=6)) == 6
    with pytest.raises(ValueError, match=r"damaged\.npz, train_images: expected a whole \.npz file"):
        load(f"npz:{tmp_path / 'damaged.npz'}", limit=6)


@pytest.mark.parametrize(
    "shape", [(10**12, 8, 8, 3), (60, 10**6, 10**6, 3), (-60, 8, 8, 3), (61, 8, 8, 3), (59, 8, 8, 3)]
)
@pytest.mark.parametrize("key", ["train", "unlabeled"])
def test_a_header_that_claims_another_size_is_refused_and_takes_no_memory(tmp_path, shape, key):
    def member(archive: zipfile.ZipFile, name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
        with archive.open(f"{name}.npy", "w") as file:
            header = {"descr": values.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(values.tobytes())

    images, labels = np.zeros((60, 8, 8, 3), np.uint8), np.arange(60) % 3
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as archive:
        member(archive, "train_images", images, shape if key == "train" else images.shape)
        member(archive, "train_labels", labels, labels.shape)
        member(archive, "unlabeled_images", images, shape)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"claims.npz, {key}_images: expected"):
        load(f"npz:{tmp_path / 'claims.npz'}", key)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
