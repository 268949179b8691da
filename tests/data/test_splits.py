import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from sslnb.data import ImageSet, load
from sslnb.data import images as images_module
from sslnb.data.catalogue import describe, names
from sslnb.data.images import resize, stratified

CLASSES = ("cat", "dog", "owl")


def image_set(counts=(30, 20, 10), side=4, masks=True) -> ImageSet:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.randint(256, (len(labels), 3, side, side), dtype=torch.uint8, generator=torch.Generator())
    return ImageSet(images, labels, CLASSES[: len(counts)], images[:, 0] > 128 if masks else None, "toy")


@pytest.fixture
def toy(tmp_path):
    """A prepared set with only a train split, in which every image differs."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [100, 60, 40]))
    images = rng.integers(0, 256, (200, 6, 5, 3), np.uint8)
    np.savez(tmp_path / "toy.npz", train_images=images, train_labels=labels, classes=np.array(CLASSES))
    return tmp_path


def rows(part: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.images}


# --- ImageSet


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("images", torch.zeros(60, 3, 4, 4), "torch.uint8"),
        ("images", torch.zeros(60, 4, 4, dtype=torch.uint8), r"\[N,C,H,W\]"),
        ("images", torch.zeros(0, 3, 4, 4, dtype=torch.uint8), "at least one image"),
        ("images", np.zeros((60, 3, 4, 4), np.uint8), "a tensor"),
        ("labels", torch.zeros(60, dtype=torch.int32), "torch.int64"),
        ("labels", torch.zeros(59, dtype=torch.int64), "one per image, 60"),
        ("labels", torch.full((60,), 3), "0..2"),
        ("labels", torch.arange(60) % 3 - 1, "0..2"),
        ("classes", (), "at least one class"),
        ("classes", ["cat", "dog", "owl"], "a tuple"),
        ("classes", ("cat", "dog", "cat"), "distinct"),
        ("masks", torch.zeros(60, 4, 5, dtype=torch.bool), r"shape \[60, 4, 4\]"),
        ("masks", torch.zeros(60, 4, 4, dtype=torch.uint8), "torch.bool"),
    ],
)
def test_an_image_set_refuses_malformed_parts_by_name(field, value, expected):
    with pytest.raises(ValueError, match=rf"^{field}: expected .*{expected}.*, got "):
        dataclasses.replace(image_set(), **{field: value})


def test_labels_of_minus_one_are_accepted_only_throughout():
    unlabeled = dataclasses.replace(image_set(), labels=torch.full((60,), -1))
    assert unlabeled.unlabeled and not image_set().unlabeled
    with pytest.raises(ValueError, match="labels"):
        dataclasses.replace(unlabeled, labels=torch.cat([unlabeled.labels[1:], torch.zeros(1, dtype=torch.int64)]))
    with pytest.raises(ValueError, match="a labeled set"):
        unlabeled.only(["cat"])


def test_subset_keeps_images_labels_and_masks_together():
    whole = image_set()
    part = whole.subset([59, 0, 31])
    assert part.labels.tolist() == [2, 0, 1] and len(part) == 3
    assert torch.equal(part.images, whole.images[[59, 0, 31]]) and torch.equal(part.masks, whole.masks[[59, 0, 31]])


@pytest.mark.parametrize("indices", [[], [60], [-1], [0.5], torch.ones(60, dtype=torch.bool)])
def test_subset_refuses_indices_that_are_not_positions(indices):
    with pytest.raises(ValueError, match=r"^indices: expected"):
        image_set().subset(indices)


def test_only_relabels_in_the_order_given_by_name_or_index():
    for classes in (["owl", "cat"], [2, 0], ["owl", 0]):
        part = image_set().only(classes)
        assert part.classes == ("owl", "cat")
        assert part.labels.bincount().tolist() == [10, 30]
        assert torch.equal(part.images[part.labels == 0], image_set().images[50:])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["dgo"], "nearest: 'dog'"),
        ([3], "3 classes.*got 3"),
        ("cat", "a sequence"),
        ([], "a sequence"),
        (["cat", 0], "once"),
    ],
)
def test_only_refuses_classes_that_are_absent_or_repeated(classes, message):
    with pytest.raises(ValueError, match=rf"^classes: expected .*{message}"):
        image_set().only(classes)


def test_take_keeps_proportions_and_at_least_one_of_each():
    assert image_set().take(12).labels.bincount().tolist() == [6, 4, 2]
    assert image_set((100, 2, 1)).take(10).labels.bincount().tolist() == [8, 1, 1]
    assert image_set((100, 2, 1)).take(3).labels.bincount().tolist() == [1, 1, 1]
    assert image_set().take(60).checksum() == image_set().checksum()


@pytest.mark.parametrize("counts", [(1, 1, 1), (7, 3, 1), (1000, 1, 500), (5, 5)])
def test_every_possible_take_has_its_size_and_its_classes(counts):
    labels = image_set(counts).labels
    for n in range(len(counts), min(len(labels), 40) + 1):
        chosen = stratified(labels, n, seed=0)
        assert len(set(chosen.tolist())) == n
        wanted = torch.tensor(counts) * n / len(labels)
        got = labels[chosen].bincount(minlength=len(counts))
        assert (got >= 1).all() and (got - wanted).max() < 1.0001  # above its share only to have one


@pytest.mark.parametrize("n", [0, 2, 61, 1.5, True])
def test_take_refuses_impossible_numbers(n):
    with pytest.raises(ValueError, match=r"^n: expected"):
        image_set().take(n)


def test_take_is_decided_by_its_seed():
    assert image_set().take(12, 3).checksum() == image_set().take(12, 3).checksum()
    assert image_set().take(12, 3).checksum() != image_set().take(12, 4).checksum()


def test_the_checksum_sees_every_part_but_the_name():
    whole = image_set()
    assert dataclasses.replace(whole, name="other").checksum() == whole.checksum()
    changed = [
        {"images": whole.images ^ (torch.arange(4) == 3)[None, None, None].to(torch.uint8)},
        {"labels": whole.labels.flip(0)},
        {"classes": ("cat", "dog", "fox")},
        {"masks": ~whole.masks},
        {"masks": None},
    ]
    sums = {dataclasses.replace(whole, **change).checksum() for change in changed}
    assert len(sums | {whole.checksum()}) == 6


# --- splits


def test_carved_splits_are_disjoint_and_complete(toy):
    parts = {split: load("toy", split, root=toy) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [162, 18, 20]
    assert len(set().union(*map(rows, parts.values()))) == 200


def test_carved_splits_are_stratified(toy):
    assert load("toy", "test", root=toy).labels.bincount().tolist() == [10, 6, 4]
    assert load("toy", "val", root=toy).labels.bincount().tolist() == [9, 5, 4]


def test_no_seed_moves_an_image_between_splits(toy):
    val = rows(load("toy", "val", root=toy))
    for seed in range(5):
        assert not rows(load("toy", "train", root=toy, limit=150, seed=seed)) & val
        assert rows(load("toy", "val", root=toy, seed=seed)) == val


def test_an_official_split_is_left_alone(toy):
    with np.load(toy / "toy.npz") as archive:
        arrays = dict(archive)
    official = {"test_images": arrays["train_images"][:50] ^ 255, "test_labels": arrays["train_labels"][:50]}
    np.savez(toy / "toy.npz", **arrays, **official)
    test, train = load("toy", "test", root=toy), load("toy", root=toy)
    assert torch.equal(test.images, torch.from_numpy(official["test_images"]).permute(0, 3, 1, 2))
    assert len(train) == 180
    np.savez(
        toy / "toy.npz", **arrays, **official, val_images=official["test_images"], val_labels=official["test_labels"]
    )
    assert len(load("toy", root=toy)) == 200 and len(load("toy", "val", root=toy)) == 50


def carve(tmp_path, counts, split, *, test=False) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None] + np.zeros((1, 2, 2), np.uint8)
    more = {"test_images": images + 100, "test_labels": labels} if test else {}
    np.savez(tmp_path / "few.npz", train_images=images, train_labels=labels, **more)
    return load("few", split, root=tmp_path)


def test_val_takes_one_of_each_class_that_has_two(tmp_path):
    assert carve(tmp_path, [1, 2, 5, 30], "val", test=True).labels.tolist() == [1, 2, 3, 3, 3]
    assert carve(tmp_path, [1, 2, 5, 30], "train", test=True).labels.bincount().tolist() == [1, 1, 4, 27]


def test_carving_that_would_empty_a_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"at least two images of every class.*got 1 of class '0'"):
        carve(tmp_path, [1, 2, 5], "train")
    with pytest.raises(ValueError, match="val split of few: expected a class of at least two"):
        carve(tmp_path, [1, 1], "val", test=True)


def test_one_class_alone_is_data(tmp_path):
    assert carve(tmp_path, [10], "train").classes == ("0",)


# --- load


def test_classes_come_before_the_limit_and_the_size_last(toy):
    part = load("toy", root=toy, classes=["owl", "dog"], limit=20, size=3)
    assert part.classes == ("owl", "dog") and part.images.shape == (20, 3, 3, 3)
    assert part.labels.bincount().tolist() == [8, 12]


def test_at_most_is_a_limit_that_takes_all_where_there_are_fewer(toy):
    whole = load("toy", root=toy)
    assert load("toy", root=toy, at_most=20).checksum() == whole.take(20).checksum()
    assert load("toy", root=toy, at_most=len(whole)).checksum() == whole.checksum()
    assert load("toy", root=toy, at_most=10**9).checksum() == whole.checksum()


def test_the_limit_is_decided_by_the_seed(toy):
    once, again, other = (load("toy", root=toy, limit=20, seed=seed).checksum() for seed in (1, 1, 2))
    assert once == again != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar"}, "^name: expected a known set.*nearest: 'cifar10'.*got 'cifar'"),
        ({"name": "tyo"}, "nearest: 'toy'"),
        ({"name": "photos"}, "digit-scenes.* or npz:PATH, folder:PATH, hf:PATH"),
        ({"name": "hf:nowhere"}, "Parquet files, got 'nowhere'"),
        ({"name": "toy", "split": "tset"}, "^split: expected .*nearest: 'test'"),
        ({"name": "toy", "split": "unlabeled"}, "^split: expected .*got 'unlabeled'"),
        ({"name": "toy", "limit": 163}, "^limit: expected at most the 162 images"),
        ({"name": "toy", "limit": 2}, "^limit: expected at least one image for each of the 3 classes"),
        ({"name": "toy", "size": 0}, "^size: expected a positive number"),
        ({"name": "toy", "classes": ["cow"]}, "^classes: expected .*got 'cow'"),
        ({"name": "digit-scenes:background=16"}, "nearest: 'backgrounds'"),
        ({"name": "digit-scenes:backgrounds=many"}, "backgrounds=NUMBER"),
        ({"name": "digit-scenes:contrast=2"}, "^contrast: expected"),
        ({"name": "digit-scenes:seed=1,seed=2"}, "once"),
        ({"name": "npz:nowhere.npz"}, "readable .npz file, got 'nowhere.npz'"),
        ({"name": "folder:nowhere"}, "folder of class folders, got 'nowhere'"),
    ],
)
def test_bad_arguments_are_refused_by_name(toy, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**arguments, root=toy)


def test_digit_scenes_take_their_parameters_from_the_name():
    plain, varied = load("digit-scenes", "val"), load("digit-scenes:backgrounds=16,contrast=0.5,scenes=50", "val")
    assert len(plain) == 1000 and len(varied) == 50
    from sslnb.data.digit_scenes import digit_scenes

    assert varied.checksum() == digit_scenes("val", backgrounds=16, contrast=0.5, scenes=50).checksum()
    assert plain.masks is not None


def test_the_root_comes_from_the_environment(toy, monkeypatch):
    monkeypatch.setenv("SSLNB_DATA", str(toy))
    assert load("toy").name == "toy"


def test_a_file_is_named_without_its_folder(toy):
    for name in (f"npz:{toy}/toy.npz", f"{toy}/toy.npz"):
        assert load(name).name == "toy"  # recorded results carry this name: nobody's paths belong there


def test_every_known_set_is_described():
    for name in names():
        assert describe(name).classes >= 10 and describe(name).citation and describe(name).homepage.startswith("https")
    assert {n for n in names() if describe(n).mean_per_class} == {"flowers102", "aircraft", "caltech101", "pets"}
    assert describe("digit-scenes:backgrounds=16") == describe("digit-scenes")
    with pytest.raises(ValueError, match=r"nearest: 'stl10'"):
        describe("slt10")


# --- resize


@pytest.mark.parametrize("shape", [(96, 96), (40, 60), (33, 20)])
def test_resizing_agrees_with_pillow(shape):
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 5), shape, mode="bicubic").clamp(0, 1)
    image = (smooth * 255).to(torch.uint8)
    height, width, top, left = images_module.cover(*shape, 16)
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.asarray(picture)[top : top + 16, left : left + 16].copy()).permute(2, 0, 1)
    assert (resize(image, 16)[0].int() - wanted.int()).abs().max() <= 1


def test_resizing_is_antialiased():
    checkers = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).expand(2, 3, 64, 64)
    assert (resize(checkers, 16).float() - 127.5).abs().max() < 5


def test_resizing_many_in_chunks_changes_nothing(monkeypatch):
    images = torch.randint(256, (7, 1, 9, 9), dtype=torch.uint8)
    whole = resize(images, 5)
    monkeypatch.setattr(images_module, "_CHUNK", 3)
    assert torch.equal(resize(images, 5), whole)


def test_masks_are_resized_with_their_images():
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[:, 10:30, 20:40] = True
    assert resize(mask, 20).float().mean() == 0.25
    assert images_module.cover(37, 20, 16) == (30, 16, 7, 0)  # 29.6 px tall, rounded
    assert resize(mask, 20).dtype == torch.bool and resize(mask, 20)[0, 5:15, 5:15].all()


# --- the real sets


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "counts", "classes"),
    [
        ("cifar10", (45_000, 5_000, 10_000), 10),
        ("cifar100", (45_000, 5_000, 10_000), 100),
        ("stl10", (3_600, 400, 1_000), 10),
        ("caltech101", (5_486, 609, 3_049), 102),
    ],
)
def test_real_sets_have_their_counts_and_every_class(real_data, name, counts, classes):
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        part = load(name, split, root=real_data)
        assert len(part) == count and len(part.classes) == classes
        assert (part.labels.bincount(minlength=classes) > 0).all()


@pytest.mark.real_data
def test_cifar10_has_its_published_channel_means(real_data):
    parts = [load("cifar10", split, root=real_data) for split in ("train", "val")]
    mean = torch.cat([part.images for part in parts]).float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


@pytest.mark.real_data
def test_cifar10_train_and_val_share_no_image(real_data):
    train, val = (rows(load("cifar10", split, root=real_data)) for split in ("train", "val"))
    assert not train & val


@pytest.mark.real_data
def test_stl10_comes_with_masks_and_unlabeled_images(real_data):
    train = load("stl10", root=real_data, size=48)
    assert train.masks.shape == (3_600, 48, 48) and 0.1 < train.masks.float().mean() < 0.9
    unlabeled = load("stl10", "unlabeled", root=real_data, size=32, limit=100)
    assert unlabeled.unlabeled and unlabeled.classes == train.classes and len(unlabeled) == 100
