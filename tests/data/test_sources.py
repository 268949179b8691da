import errno
import functools
import hashlib
import http.server
import io
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from sslnb.core import files
from sslnb.data import load, pictures, sources
from sslnb.data.catalogue import describe


def write_npz(path: Path, **changes: np.ndarray | None) -> Path:
    """A sound MedMNIST-style file of 30 images in three classes, with some keys replaced, added or (None) removed."""
    labels = np.arange(30)[:, None] % 3
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 3), np.uint8)
    arrays = {
        f"{split}_{key}": a for split in ("train", "val", "test") for key, a in (("images", images), ("labels", labels))
    }
    np.savez(path, **{key: a for key, a in {**arrays, **changes}.items() if a is not None})
    return path


def write_picture(path: Path, width: int = 8, height: int = 8, shade: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), shade if mode != "RGB" else (shade, 255 - shade, 7)).save(path)


def write_tree(root: Path, classes=("ant", "bee"), count: int = 10, **size: int) -> Path:
    for k, name in enumerate(classes):
        for i in range(count):
            write_picture(root / name / f"{i}.png", shade=20 * k + i, **size)
    return root


# --- npz


def test_npz_reads_medmnist_keys(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    part = load(f"npz:{path}", "test")
    assert part.images.shape == (30, 3, 4, 5) and part.labels.tolist() == [0, 1, 2] * 10
    assert part.classes == ("0", "1", "2") and part.masks is None and part.name == "a"
    with np.load(path) as archive:
        assert torch.equal(part.images, torch.from_numpy(archive["test_images"]).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [((30, 7, 6), (1, 7, 6)), ((30, 7, 6, 1), (1, 7, 6)), ((30, 3, 7, 6), (3, 7, 6)), ((30, 7, 6, 3), (3, 7, 6))],
)
def test_npz_images_may_be_grey_channel_first_or_channel_last(tmp_path, stored, loaded):
    path = write_npz(tmp_path / "a.npz", train_images=np.zeros(stored, np.uint8))
    assert load(str(path)).images.shape[1:] == loaded


def test_npz_masks_follow_their_images_through_split_and_limit(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 5), np.uint8)
    masks = images > 100
    path = write_npz(tmp_path / "a.npz", train_images=images, train_masks=masks.astype(np.uint8), val_images=None)
    part = load(str(path), "val", limit=3)
    assert part.masks.dtype == torch.bool and torch.equal(part.masks, part.images[:, 0] > 100)


def test_npz_unlabeled_images_have_label_minus_one_and_the_classes_of_the_set(tmp_path):
    more = {"unlabeled_images": np.zeros((5, 4, 5), np.uint8), "classes": np.array(["x", "y", "z"])}
    path = write_npz(tmp_path / "a.npz", **more)
    part = load(str(path), "unlabeled")
    assert part.labels.tolist() == [-1] * 5 and part.classes == ("x", "y", "z")
    with pytest.raises(ValueError, match=r"^classes: expected None"):
        load(str(path), "unlabeled", classes=["x"])


IMAGES, LABELS = np.zeros((30, 4, 5), np.uint8), np.arange(30) % 3


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train_images", IMAGES.astype(np.float32), "dtype uint8, got dtype float32"),
        ("train_images", np.zeros((30, 4), np.uint8), "shape"),
        ("train_images", np.zeros((30, 3, 5, 3), np.uint8), "either second or last"),
        ("train_images", np.zeros((30, 4, 5, 2), np.uint8), "1 or 3 channels"),
        ("train_images", IMAGES[:29], "30 images, one per label, got 29"),
        ("train_images", IMAGES.astype(object), "without pickled objects"),
        ("train_labels", LABELS / 2, "integers, got dtype float64"),
        ("train_labels", np.eye(3, dtype=int)[LABELS], "one label per image"),
        ("train_labels", LABELS - 1, "an image of every class, got none of 2$"),
        ("train_labels", LABELS * 2, "an image of every class, got none of 1$"),
        ("train_labels", np.zeros((0, 1), int), "one label per image"),
        ("classes", np.array(["x", "y"]), "labels in 0..1"),
        ("classes", np.array(["x", "y", "z", "w"]), "got none of w"),
        ("classes", np.arange(3), "strings"),
        ("train_masks", np.zeros((30, 5, 4), bool), r"shape \[30, 4, 5\]"),
        ("train_masks", np.full((30, 4, 5), 7), "booleans, or 0 and 1"),
    ],
)
def test_npz_arrays_that_do_not_fit_are_refused_by_file_and_key(tmp_path, key, value, expected):
    path = write_npz(tmp_path / "a.npz", **{key: value})
    at_fault = "train_labels" if key == "classes" and value.dtype.kind == "U" else key
    with pytest.raises(ValueError, match=rf"a\.npz, {at_fault}: expected .*{expected}"):
        load(str(path))


@pytest.mark.parametrize(("split", "key"), [("train", "train_images"), ("test", "test_labels")])
def test_npz_keys_that_are_missing_are_named(tmp_path, split, key):
    path = write_npz(tmp_path / "a.npz", **{key: None})
    with pytest.raises(ValueError, match=rf"a\.npz: expected the key {key}, got keys "):
        load(str(path), split)


def test_npz_files_cut_short_or_corrupt_are_refused_by_name(tmp_path):
    whole = write_npz(tmp_path / "whole.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"train_images") + 400] ^= 255
    array = io.BytesIO()
    np.save(array, LABELS)
    for content in (whole[: len(whole) // 2], b"", b"not a zip file", bytes(flipped), array.getvalue()):
        path = tmp_path / "bad.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.npz.*: expected a"):
            load(str(path))


def test_npz_reads_only_the_arrays_asked_for(tmp_path):
    path = write_npz(tmp_path / "a.npz", test_images=IMAGES.astype(object), test_masks=IMAGES.astype(object))
    assert len(load(str(path), "train")) == 30


def test_a_prepared_file_is_used_before_anything_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "fetch", lambda *_: pytest.fail("tried to download"))
    write_npz(tmp_path / "cifar10.npz")
    assert len(load("cifar10", root=tmp_path)) == 30


# --- folders


def test_a_folder_per_class_becomes_three_disjoint_splits(tmp_path):
    tree = write_tree(tmp_path / "insects", count=20)
    parts = [load(f"folder:{tree}", split, root=tmp_path) for split in ("train", "val", "test")]
    assert [part.labels.bincount().tolist() for part in parts] == [[16, 16], [2, 2], [2, 2]]
    assert parts[0].classes == ("ant", "bee") and parts[0].name == "insects" and parts[0].images.shape[1:] == (3, 8, 8)
    shades = torch.cat([part.images[:, 0, 0, 0] for part in parts]).sort().values
    assert shades.tolist() == list(range(40))
    assert (parts[0].images[:, 0, 0, 0] // 20 == parts[0].labels).all()


def test_a_folder_per_split_is_taken_as_it_is(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        write_tree(tmp_path / "insects" / split, count=count)
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        assert len(load(f"folder:{tmp_path}/insects", split, root=tmp_path)) == count


def test_hidden_and_other_files_are_ignored_and_grey_becomes_rgb(tmp_path):
    tree = write_tree(tmp_path / "t")
    (tree / "ant" / ".hidden.png").write_bytes(b"")
    (tree / "ant" / "notes.txt").write_bytes(b"")
    (tree / ".cache").mkdir()
    write_picture(tree / "bee" / "grey.JPG", shade=90, mode="L")
    assert len(load(f"folder:{tree}", "train", root=tmp_path)) == 17


def test_an_unreadable_picture_is_named(tmp_path):
    tree = write_tree(tmp_path / "t")
    broken = tree / "bee" / "3.png"
    for content in (b"", b"not a picture", broken.read_bytes()[:-30]):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"bee/3\.png: expected a readable picture"):
            for split in ("train", "val", "test"):
                load(f"folder:{tree}", split, root=tmp_path)


def test_pictures_of_several_sizes_need_a_size_and_both_are_named(tmp_path):
    for split in ("train", "val", "test"):
        write_tree(tmp_path / "t" / split)
    write_picture(tmp_path / "t" / "train" / "bee" / "wide.png", width=20, height=10)
    with pytest.raises(ValueError, match=r"bee/wide\.png: expected the 8×8 px of .*ant/0\.png.*size=.*got 20×10 px"):
        load(f"folder:{tmp_path}/t", root=tmp_path)
    assert load(f"folder:{tmp_path}/t", root=tmp_path, size=6).images.shape == (21, 3, 6, 6)


def test_an_empty_class_folder_is_named(tmp_path):
    tree = write_tree(tmp_path / "t")
    (tree / "cow").mkdir()
    with pytest.raises(ValueError, match=r"t/cow: expected at least one picture"):
        load(f"folder:{tree}", root=tmp_path)


def test_a_class_that_train_lacks_is_named_with_the_nearest(tmp_path):
    write_tree(tmp_path / "t" / "train")
    write_tree(tmp_path / "t" / "test", classes=("ant", "bees"))
    with pytest.raises(ValueError, match=r"t/test: expected .*nearest: 'bee'.*bees"):
        load(f"folder:{tmp_path}/t", "test", root=tmp_path)


def test_decoding_happens_once_until_a_file_changes(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "t")
    first = load(f"folder:{tree}", root=tmp_path, size=6)
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda *_: pytest.fail("decoded again"))
    assert load(f"folder:{tree}", root=tmp_path, size=6).checksum() == first.checksum()
    monkeypatch.setattr(pictures, "decode", decode)
    for k in range(10):
        write_picture(tree / "bee" / f"{k}.png", shade=200)
    assert load(f"folder:{tree}", root=tmp_path, size=6).checksum() != first.checksum()


def test_a_damaged_cache_is_made_again(tmp_path):
    tree = write_tree(tmp_path / "t")
    first = load(f"folder:{tree}", root=tmp_path)
    (cache,) = (tmp_path / ".decoded").iterdir()
    cache.write_bytes(cache.read_bytes()[:500])
    assert load(f"folder:{tree}", root=tmp_path).checksum() == first.checksum()
    assert len(list((tmp_path / ".decoded").iterdir())) == 1


def test_a_full_disk_costs_the_cache_but_not_the_data(tmp_path, monkeypatch):
    def full(path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="not kept.*No space left"):
        assert len(load(f"folder:{write_tree(tmp_path / 't')}", root=tmp_path)) == 16
    assert not list((tmp_path / ".decoded").iterdir())


# --- atomic files


def test_a_full_disk_leaves_the_previous_file_whole(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"previous")
    with pytest.raises(OSError, match="No space"), files.atomic(tmp_path / "a.npz") as partial:
        partial.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.npz", b"previous")]


def kill_when_ready(code: str, ready: Path) -> None:
    """Run Python code that makes the file ``ready`` and then sleeps; kill it there."""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and ready.exists()


@pytest.mark.parametrize("previous", [None, b"previous"])
def test_a_killed_process_leaves_no_half_written_file(tmp_path, previous):
    target, ready = tmp_path / "a.npz", tmp_path / "ready"
    if previous:
        target.write_bytes(previous)
    kill_when_ready(
        "import time, pathlib\nfrom sslnb.core import files\n"
        f"with files.atomic({str(target)!r}) as partial:\n"
        f"    partial.write_bytes(b'half'); pathlib.Path({str(ready)!r}).touch(); time.sleep(60)",
        ready,
    )
    assert (target.read_bytes() if target.exists() else None) == previous


# --- downloads


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def cifar_server(tmp_path, monkeypatch):
    """A local server with a CIFAR-10 of 25 train and 20 test images, in torchvision's layout."""
    rng = np.random.default_rng(0)
    batches = {f"data_batch_{i}": np.arange(5) + 5 * (i % 2) for i in range(1, 6)} | {"test_batch": np.arange(20) % 10}
    members = {
        name: pickle.dumps({"data": rng.integers(0, 256, (len(y), 3072), np.uint8), "labels": y.tolist()})
        for name, y in batches.items()
    }
    members["batches.meta"] = pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "cifar.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cifar = datasets.CIFAR10
    monkeypatch.setattr(cifar, "url", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
    monkeypatch.setattr(cifar, "tgz_md5", md5((served / "cifar.tar.gz").read_bytes()))
    monkeypatch.setattr(cifar, "train_list", [[n, md5(members[n])] for n in batches if n != "test_batch"])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", md5(members["test_batch"])]])
    monkeypatch.setattr(
        cifar, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5(members["batches.meta"])}
    )
    yield server
    server.shutdown()
    server.server_close()


def leftovers(root: Path) -> list[str]:
    return [p.name for p in root.glob(".download-*-*")]


def test_a_download_lands_whole_and_is_used_again_without_the_server(tmp_path, cifar_server):
    root = tmp_path / "root"
    test = load("cifar10", "test", root=root)
    assert test.images.shape == (20, 3, 32, 32) and test.labels.tolist() == list(range(10)) * 2
    assert test.classes[3] == "class 3" and test.name == "cifar10"
    cifar_server.shutdown()
    assert len(load("cifar10", root=root)) + len(load("cifar10", "val", root=root)) == 25
    assert not leftovers(root) and not list(root.rglob("*.tar.gz"))


def test_a_download_with_the_wrong_checksum_is_refused_and_leaves_nothing(tmp_path, cifar_server, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(RuntimeError, match=r"^cifar10: the download failed .*corrupted"):
        load("cifar10", root=tmp_path / "root")
    assert not leftovers(tmp_path / "root") and not (tmp_path / "root" / "cifar10").exists()


def test_without_a_network_the_message_says_what_failed_why_and_what_to_do(tmp_path, cifar_server, monkeypatch):
    cifar_server.shutdown()
    cifar_server.server_close()
    with pytest.raises(
        RuntimeError, match=r"cifar10: the download failed .*refused.*prepared cifar10\.npz into .*root"
    ):
        load("cifar10", root=tmp_path / "root")
    assert not leftovers(tmp_path / "root")


def test_what_a_killed_download_left_is_cleared_by_the_next(tmp_path, cifar_server):
    root = tmp_path / "root"
    kill_when_ready(
        "import pathlib, time\nfrom sslnb.data import sources\n"
        "def build(sets, at, split, get):\n"
        f"    (at / 'half').write_bytes(b'half'); pathlib.Path({str(tmp_path / 'ready')!r}).touch(); time.sleep(60)\n"
        "sources._RECIPES['cifar10'] = sources._Recipe({'train': 'train'}, build)\n"
        f"sources.fetch('cifar10', pathlib.Path({str(root)!r}))",
        tmp_path / "ready",
    )
    assert leftovers(root) and not (root / "cifar10").exists()
    assert len(load("cifar10", "test", root=root)) == 20
    assert not leftovers(root)


def test_two_at_once_download_once(tmp_path, monkeypatch):
    calls = []

    def build(sets, at, split, get):
        calls.append(at)
        time.sleep(0.2)
        (at / "done").touch()

    monkeypatch.setitem(sources._RECIPES, "cifar10", sources._Recipe({"train": "train"}, build))
    threads = [threading.Thread(target=sources.fetch, args=("cifar10", tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and (tmp_path / "cifar10" / "done").exists()


@pytest.mark.parametrize(("name", "what"), [("cars", "cars_test_annos_withlabels"), ("imagenet", "train/ and val/")])
def test_sets_that_cannot_be_downloaded_say_where_to_put_them(tmp_path, name, what):
    with pytest.raises(ValueError, match=rf"{name} placed by hand under .*{name}: .*{what}.*{name}\.npz"):
        load(name, root=tmp_path)


def test_files_that_torchvision_cannot_use_are_refused_with_their_folder(tmp_path):
    (tmp_path / "dtd").mkdir()
    with pytest.raises(ValueError, match=r"/dtd: expected dtd as torchvision lays it out"):
        load("dtd", root=tmp_path)


# --- torchvision's layouts, on small stand-ins: per set, how many images each split has


def lay_stl10(at: Path, monkeypatch) -> None:
    for part, count in (("train", 20), ("test", 10), ("unlabeled", 5)):
        pixels = np.random.default_rng(0).integers(0, 256, count * 3 * 96 * 96, np.uint8)
        (at / "stl10_binary").mkdir(parents=True, exist_ok=True)
        pixels.tofile(at / "stl10_binary" / f"{part}_X.bin")
        (np.arange(count, dtype=np.uint8) % 10 + 1).tofile(at / "stl10_binary" / f"{part}_y.bin")
    (at / "stl10_binary" / "class_names.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)


def lay_flowers102(at: Path, monkeypatch) -> None:
    base = at / "flowers-102"
    for i in range(1, 307):
        write_picture(base / "jpg" / f"image_{i:05d}.jpg", 9, 8)
    savemat(base / "imagelabels.mat", {"labels": np.arange(306) % 102 + 1})
    savemat(
        base / "setid.mat", {"trnid": np.arange(1, 103), "valid": np.arange(103, 205), "tstid": np.arange(205, 307)}
    )
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)


def lay_aircraft(at: Path, monkeypatch) -> None:
    base = at / "fgvc-aircraft-2013b" / "data"
    for i in range(12):
        write_picture(base / "images" / f"{i:07d}.jpg", 12, 8)
    (base / "variants.txt").write_text("707-320\nA340 300\n")
    for k, split in enumerate(("train", "val", "test")):
        lines = [f"{4 * k + i:07d} {('707-320', 'A340 300')[i % 2]}" for i in range(4)]
        (base / f"images_variant_{split}.txt").write_text("\n".join(lines))


def lay_caltech101(at: Path, monkeypatch) -> None:
    write_tree(at / "caltech101" / "101_ObjectCategories", ("BACKGROUND_Google", "ant"), 35, width=9)


def lay_cars(at: Path, monkeypatch) -> None:
    base = at / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi", "BMW"], dtype=object)})
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        kind = [("fname", object), ("class", np.uint8)]
        savemat(base / file, {"annotations": np.array([(f"{i}.jpg", i % 2 + 1) for i in range(20)], dtype=kind)})
        for i in range(20):
            write_picture(base / f"cars_{split}" / f"{i}.jpg", 8, 9)


def lay_food101(at: Path, monkeypatch) -> None:
    for split in ("train", "test"):
        meta = {c: [f"{c}/{split}{i}" for i in range(10)] for c in ("pie", "soup")}
        (at / "food-101" / "meta").mkdir(parents=True, exist_ok=True)
        (at / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(meta))
        for stem in itertools.chain(*meta.values()):
            write_picture(at / "food-101" / "images" / f"{stem}.jpg", 10, 8)


def lay_dtd(at: Path, monkeypatch) -> None:
    for split in ("train", "val", "test"):
        stems = [f"{c}/{c}_{split}{i}.jpg" for c in ("dotted", "woven") for i in range(3)]
        (at / "dtd" / "dtd" / "labels").mkdir(parents=True, exist_ok=True)
        (at / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text("\n".join(stems))
        for stem in stems:
            write_picture(at / "dtd" / "dtd" / "images" / stem, 8, 11)


def lay_pets(at: Path, monkeypatch) -> None:
    base = at / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        stems = [f"{pet}_{split}{i}" for pet in ("Abyssinian", "beagle") for i in range(10)]
        lines = [f"{stem} {1 + stem.startswith('b')} {1 + stem.startswith('b')} 1" for stem in stems]
        (base / "annotations" / f"{split}.txt").write_text("\n".join(lines))
        for stem in stems:
            write_picture(base / "images" / f"{stem}.jpg", 8, 9)


def lay_imagenet(at: Path, monkeypatch) -> None:
    for split in ("train", "val"):
        write_tree(at / split, ("n01440764", "n01443537"), 10, width=9)


@pytest.mark.parametrize(
    ("lay", "counts"),
    [
        (lay_stl10, {"train": 10, "val": 10, "test": 10, "unlabeled": 5}),
        (lay_flowers102, {"train": 102, "val": 102, "test": 102}),
        (lay_aircraft, {"train": 4, "val": 4, "test": 4}),
        (lay_caltech101, {"train": 54, "val": 6, "test": 10}),
        (lay_cars, {"train": 18, "val": 2, "test": 20}),
        (lay_food101, {"train": 18, "val": 2, "test": 20}),
        (lay_dtd, {"train": 6, "val": 6, "test": 6}),
        (lay_pets, {"train": 18, "val": 2, "test": 20}),
        (lay_imagenet, {"train": 18, "val": 2, "test": 20}),
    ],
    ids=lambda value: value.__name__[4:] if callable(value) else "",
)
def test_each_set_is_read_from_torchvisions_layout(tmp_path, monkeypatch, lay, counts):
    name = lay.__name__[4:]
    lay(tmp_path / name, monkeypatch)
    for split, count in counts.items():
        part = load(name, split, root=tmp_path, size=6)
        assert part.images.shape == (count, 3, 6, 6) and part.name == name
        assert part.unlabeled or part.labels.unique().tolist() == list(range(len(part.classes)))
    assert ("val" in sources.resolve(name, tmp_path, None).splits) == (describe(name).val > 0)


def test_sets_of_varying_size_come_at_224_px_unless_told_otherwise(tmp_path, monkeypatch):
    lay_dtd(tmp_path / "dtd", monkeypatch)
    assert load("dtd", root=tmp_path).images.shape == (6, 3, 224, 224)


def test_a_limit_decodes_only_what_it_keeps(tmp_path, monkeypatch):
    lay_food101(tmp_path / "food101", monkeypatch)
    decode, decoded = pictures.decode, []
    monkeypatch.setattr(pictures, "decode", lambda found, size: decoded.extend(found) or decode(found, size))
    load("food101", root=tmp_path, limit=4, size=6)
    assert len(decoded) == 4
