"""The image sets known by name, and what is published about each."""

import dataclasses

from sslnb.core.checks import expect, nearest


@dataclasses.dataclass(frozen=True)
class SetInfo:
    """What is published about a known set: official image counts per split (0: none) and side in px (0: it varies)."""

    classes: int
    train: int
    val: int
    test: int
    size: int
    citation: str
    homepage: str
    terms: str
    unlabeled: int = 0
    mean_per_class: bool = False  # its papers report the mean of the per-class accuracies


FORMS = ("npz:PATH", "folder:PATH", "hf:PATH")  # sets of somebody's own
_OXFORD, _CIFAR = "https://www.robots.ox.ac.uk/~vgg/data/", "https://www.cs.toronto.edu/~kriz/cifar.html"
_STL, _CARS = "https://cs.stanford.edu/~acoates/stl10/", "https://ai.stanford.edu/~jkrause/cars/car_dataset.html"
_FOOD, _CALTECH = (
    "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    "https://data.caltech.edu/records/mzrjq-6wc02",
)
_RESEARCH, _UNSTATED = "research use; the photographs belong to their owners", "no licence stated"
# fmt: off
SETS = {
    "digit-scenes": SetInfo(10, 10_000, 1_000, 2_000, 32, "alpaydin1998", "https://scikit-learn.org", "CC BY 4.0"),
    "cifar10": SetInfo(10, 50_000, 0, 10_000, 32, "krizhevsky2009", _CIFAR, _UNSTATED),
    "cifar100": SetInfo(100, 50_000, 0, 10_000, 32, "krizhevsky2009", _CIFAR, _UNSTATED),
    "stl10": SetInfo(10, 5_000, 0, 8_000, 96, "coates2011", _STL, _RESEARCH, unlabeled=100_000),
    "flowers102": SetInfo(102, 1_020, 1_020, 6_149, 0, "nilsback2008", f"{_OXFORD}flowers/102/", _RESEARCH, 0, True),
    "aircraft": SetInfo(100, 3_334, 3_333, 3_333, 0, "maji2013", f"{_OXFORD}fgvc-aircraft/", _RESEARCH, 0, True),
    "caltech101": SetInfo(102, 3_060, 0, 6_084, 0, "feifei2004", _CALTECH, "CC BY 4.0", 0, True),
    "cars": SetInfo(196, 8_144, 0, 8_041, 0, "krause2013", _CARS, _RESEARCH),
    "food101": SetInfo(101, 75_750, 0, 25_250, 0, "bossard2014", _FOOD, _RESEARCH),
    "dtd": SetInfo(47, 1_880, 1_880, 1_880, 0, "cimpoi2014", f"{_OXFORD}dtd/", _RESEARCH),
    "pets": SetInfo(37, 3_680, 0, 3_669, 0, "parkhi2012", f"{_OXFORD}pets/", "CC BY-SA 4.0", 0, True),
    "imagenet": SetInfo(1_000, 1_281_167, 0, 50_000, 0, "deng2009", "https://image-net.org", "research use; register"),
}
# fmt: on


def names() -> tuple[str, ...]:
    """The sets known by name; ``load`` also takes :data:`FORMS` and what is prepared under the root."""
    return tuple(SETS)


def describe(name: str) -> SetInfo:
    """Classes, official counts, size, citation key, homepage and terms of a known set; parameters are ignored."""
    base = name.partition(":")[0]
    expect(base in SETS, "name", f"a known set{nearest(base, SETS)}", repr(name))
    return SETS[base]
