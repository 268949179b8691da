"""What a name stands for: the embedded generator, somebody's own files or folders, or torchvision's sets."""

import dataclasses
import inspect
import json
import shutil
import socket
import tempfile
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from sslnb.core import files
from sslnb.core.checks import expect, nearest
from sslnb.data import folders, hf, npz, pictures
from sslnb.data.catalogue import FORMS, SETS
from sslnb.data.digit_scenes import digit_scenes
from sslnb.data.images import Source, Split, choose_per_class, others

DEFAULT_SIDE = 224  # px, for the known sets whose pictures differ in size: what their papers evaluate at
CALTECH_TRAIN, CALTECH_SEED = 30, 101  # training images per class (feifei2004); constant seed, as no split is official
_DOWNLOAD_TIMEOUT = 60  # seconds of silence from a server


def resolve(name: str, root: Path, size: int | None) -> Source:
    """Find the source that a name stands for. Raises ``ValueError`` naming the nearest known name."""
    base, _, rest = name.partition(":")
    if base == "digit-scenes":
        return _generated(name, rest)
    if base == "folder":
        return folders.folder(files.home(rest), root, size)
    if base == "hf":
        return hf.source(rest, root, size)
    if base == "npz" or name.endswith(".npz"):
        return npz.source(files.home(rest if base == "npz" else name))
    if Path(name).name == name and (prepared := root / f"{name}.npz").is_file():
        return npz.source(prepared)
    known = (*SETS, *(p.stem for p in root.glob("*.npz")))
    forms = f"a known set ({', '.join(SETS)}) or {', '.join(FORMS)}"
    expect(name in SETS, "name", f"{forms}{nearest(name, known)}", repr(name))
    return _known_set(name, root, size)


def _generated(name: str, parameters: str) -> Source:
    options = _parameters(parameters)

    def read(split: str) -> Split:
        scenes = digit_scenes(split, **options)
        return Split(scenes.labels, scenes.classes, lambda at: (scenes.images[at], scenes.masks[at]))

    return Source(name, ("train", "val", "test"), read)


def _parameters(text: str) -> dict[str, int | float]:
    """``backgrounds=16,contrast=0.5`` as the generator's keyword arguments."""
    known = [p for p in inspect.signature(digit_scenes).parameters if p != "split"]
    values = {}
    for item in text.split(",") if text else ():
        key, _, value = item.partition("=")
        expect(key in known, "name", f"parameters among {', '.join(known)}{nearest(key, known)}", repr(key))
        expect(key not in values, "name", "each parameter once", repr(key))
        try:
            values[key] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"name: expected {key}=NUMBER, got {item!r}") from error
    return values


# --- torchvision's sets -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """torchvision's name for each of our splits, and how to make its data set.

    ``build`` gets torchvision.datasets, a folder, torchvision's name of a split, and whether to download.
    """

    splits: dict[str, str]
    build: Callable[[ModuleType, Path, str, bool], object]

    def dataset(self, at: Path, split: str, *, download: bool = False) -> typing.Any:
        from torchvision import datasets  # as long an import as torch's own, and a prepared file needs none

        return self.build(datasets, at, split, download)


_OFFICIAL = {"train": "train", "val": "val", "test": "test"}
_TWO = {"train": "train", "test": "test"}
# ``loader=str`` makes torchvision list paths and labels without decoding: only what is asked for gets decoded.
_RECIPES = {
    "cifar10": _Recipe(_TWO, lambda sets, at, split, get: sets.CIFAR10(at, split == "train", download=get)),
    "cifar100": _Recipe(_TWO, lambda sets, at, split, get: sets.CIFAR100(at, split == "train", download=get)),
    "stl10": _Recipe(
        {**_TWO, "unlabeled": "unlabeled"}, lambda sets, at, split, get: sets.STL10(at, split, download=get)
    ),
    "flowers102": _Recipe(_OFFICIAL, lambda sets, at, split, get: sets.Flowers102(at, split, download=get, loader=str)),
    "aircraft": _Recipe(_OFFICIAL, lambda sets, at, split, get: sets.FGVCAircraft(at, split, download=get, loader=str)),
    "caltech101": _Recipe({}, lambda sets, at, split, get: sets.Caltech101(at, download=get)),
    "cars": _Recipe(_TWO, lambda sets, at, split, get: sets.StanfordCars(at, split, loader=str)),
    "food101": _Recipe(_TWO, lambda sets, at, split, get: sets.Food101(at, split, download=get, loader=str)),
    "dtd": _Recipe(_OFFICIAL, lambda sets, at, split, get: sets.DTD(at, split, download=get, loader=str)),
    "pets": _Recipe(
        {**_TWO, "train": "trainval"}, lambda sets, at, split, get: sets.OxfordIIITPet(at, split, download=get)
    ),
}
_BY_HAND = {  # cannot be downloaded: what to put where, relative to <root>/<name>
    "cars": "stanford_cars/ with devkit/, cars_train/, cars_test/ and cars_test_annos_withlabels.mat",
    "imagenet": "train/ and val/ with one folder of pictures per class (val serves as the test split)",
}


def _known_set(name: str, root: Path, size: int | None) -> Source:
    at = fetch(name, root)
    if name == "caltech101":
        return _caltech101(at / "caltech101" / "101_ObjectCategories", root, size)
    if name == "imagenet":
        trees = {"train": at / "train", "test": at / "val"}
        trees = {split: tree for split, tree in trees.items() if tree.is_dir()}
        expect(bool(trees), str(at), _BY_HAND[name], "neither")
        return folders.trees(name, trees, root, size)
    return Source(name, tuple(_RECIPES[name].splits), lambda split: _torchvision_split(name, at, split, root, size))


def _caltech101(tree: Path, root: Path, size: int | None) -> Source:
    """30 random images per class to train on, all others to test, as its authors did; constant, 102 classes."""

    def read(split: str) -> Split:
        whole = folders.trees("caltech101", {"train": tree}, root, size).open("train")
        quota = torch.full((len(whole.classes),), CALTECH_TRAIN)
        train = choose_per_class(whole.labels, quota, torch.Generator().manual_seed(CALTECH_SEED))
        return whole.at(train if split == "train" else others(len(whole.labels), train))

    return Source("caltech101", ("train", "test"), read)


def _torchvision_split(name: str, at: Path, split: str, root: Path, size: int | None) -> Split:
    recipe = _RECIPES[name]
    try:
        dataset = recipe.dataset(at, recipe.splits[split])
    except Exception as error:  # whatever torchvision makes of files that are missing or damaged
        wanted = f"{name} as torchvision lays it out (remove the folder to have it downloaded again)"
        raise ValueError(f"{at}: expected {wanted}, got {error}") from error
    classes = tuple(dataset.classes)
    if hasattr(dataset, "data"):
        pixels = torch.from_numpy(dataset.data)
        pixels = pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)
        labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
        return Split(torch.as_tensor(labels).long(), classes, lambda chosen: (pixels[chosen].contiguous(), None))
    listed = (
        zip(dataset._images, dataset._labels, strict=True)
        if name == "pets"
        else map(dataset.__getitem__, range(len(dataset)))
    )
    paths, labels = zip(*listed, strict=True)
    listed, labels = [pictures.Picture.at(Path(path)) for path in paths], torch.tensor(labels).long()
    return pictures.split_of(f"{name}-{split}", listed, labels, classes, root, size or DEFAULT_SIDE)


def fetch(name: str, root: Path) -> Path:
    """The folder ``<root>/<name>``, downloaded by torchvision (MD5 verified) if it is not there, whole or not at all.

    Raises ``RuntimeError`` saying why a download failed and what to do; ``ValueError`` for sets to be placed by hand.
    """
    at = root / name
    if name in _BY_HAND:
        expect(
            at.is_dir(), "name", f"{name} placed by hand under {at}: {_BY_HAND[name]}; or {at}.npz", "no such folder"
        )
    elif not at.is_dir():
        with files.alone(root / f".download-{name}.lock"):
            for leftover in root.glob(f".download-{name}-*"):  # of a killed run, since nobody holds the lock
                shutil.rmtree(leftover)
            if not at.is_dir():
                _download(name, at)
    return at


def _download(name: str, at: Path) -> None:
    partial, before = Path(tempfile.mkdtemp(prefix=f".download-{name}-", dir=at.parent)), socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # torchvision sets none: a silent server would hang forever
        _RECIPES[name].dataset(partial, next(iter(_RECIPES[name].splits.values()), ""), download=True)
        for archive in (p for p in partial.rglob("*") if p.suffix in (".gz", ".tgz", ".tar", ".zip")):
            archive.unlink()  # unpacked and verified; it would double the space taken
        partial.chmod(0o755)
        partial.rename(at)
    except Exception as error:  # no network, wrong checksum, full disk, truncated archive, …
        advice = f"put a prepared {name}.npz into {at.parent}, or torchvision's files into {at}"
        raise RuntimeError(
            f"{name}: the download failed ({type(error).__name__}: {error}); try again, or {advice}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(partial, ignore_errors=True)
