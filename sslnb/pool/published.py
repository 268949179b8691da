"""Pools of encoders that others published: fetched on first use, verified, and then members like any other."""

import datetime
import math
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from tqdm.auto import tqdm

from sslnb import data
from sslnb.core.checks import expect, one_line
from sslnb.core.download import download, expect_checksum
from sslnb.core.files import alone, atomic, beside, cache_root, sha256
from sslnb.data import ImageSet
from sslnb.encoders import foreign
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import read_checkpoint
from sslnb.encoders.wrapped import torchvision_encoder
from sslnb.pool.members import Plan, scale
from sslnb.pool.pool import Pool
from sslnb.pool.store import Entry

SIDE = 224  # px, of the images that all of them learned from
IMAGES = 10_000  # of ImageNet's, where a split is asked for: 1.5 GB at 224 px, and all of them would be 193 GB


@dataclass(frozen=True)
class Published:
    """An encoder that somebody published: where its file is, and what its publisher says of it."""

    address: str
    linear_accuracy: float  # on ImageNet's validation images, in [0, 1]
    licence: str
    source: str  # the page or code that states address, accuracy and checksum
    checksum: str = ""  # kind and first digits, such as "md5:a04e12f8"; the first file is trusted where it is empty
    megabytes: float | None = None  # where it is known before the file is there
    read: Callable[[Mapping[str, object]], Encoder] | None = None  # makes the encoder where it is not a plain ResNet
    objective: str = ""  # the variant's own name unless given
    dataset: str = "imagenet"
    seeds: int = 1


class PublicPlan(Plan):
    """Published encoders of one architecture, each of which has one seed, 0."""

    def __init__(self, name: str, variants: Mapping[str, Published], architecture: str = "resnet50") -> None:
        self.name, self.variants, self.architecture = name, variants, architecture
        self.members = {f"{variant}/0": published for variant, published in variants.items()}


class Record(BaseModel):
    """What is known of a file that came, kept beside it: it has to stay the same from then on."""

    address: str
    sha256: str
    size: int
    fetched: str
    checksum: str  # of the publisher, which it had; empty where there is none


class PublicPool(Pool):
    """Encoders that others published. ``encoder("moco")`` fetches its file on first use, with progress and verified.

    All planned members count as there. No training of theirs is known, so there are no earlier steps, no matched
    controls, and no floor; their accuracies are those that their publishers state. Weights are used as published, not
    rounded. ``ValueError`` in one line, and no file left, where an address gives no answer or something else.
    """

    def __init__(self, name: str = "public", *, folder: Path | str | None = None) -> None:
        self.scale = scale(name)
        self.folder = Path(folder) if folder else cache_root() / "pool" / name
        self.manifest = None

    def members(self) -> tuple[str, ...]:
        return tuple(self.scale.members)

    def matched_steps(self) -> dict[int, int]:
        return {}

    def steps(self, variant: str, seed: int = 0) -> tuple[int, ...]:
        self.scale.member(f"{variant}/{seed}")
        return ()

    def images(self, split: str = "train") -> ImageSet:
        """Some of ImageNet's images, which have to be placed by hand; no study needs them for these encoders."""
        return data.load("imagenet", split, size=SIDE, limit=IMAGES)

    def floor(self) -> dict[str, object]:
        """NaN: nobody published what raw pixels or untrained networks reach on ImageNet's 1,000 classes.

        None is needed: the accuracies published are hundreds of times chance there, so every member has learned.
        """
        return {"pixels": math.nan, "untrained": [math.nan]}

    def path(self, name: str) -> Path:
        """Where a member's file is, once it has been fetched or put there by hand."""
        published = self.scale.member(name)
        return self.folder / name.partition("/")[0] / Path(urllib.parse.urlsplit(published.address).path).name

    def find(self, name: str) -> tuple[Path, Entry]:
        return self._find(name) or self._fetch(name)

    def fetch(self, names: Sequence[str] = ()) -> dict[str, Entry]:
        """Fetch what is missing, or of the members named; returns what came. One that fails is named after all others.

        ``ValueError`` says why the first one failed.
        """
        wanted = [name for name in names or self.members() if self._find(name) is None]
        entries, failed = {}, {}
        for name in tqdm(wanted, desc=f"pool {self.scale.name}", unit="file"):
            try:
                entries[name] = self._fetch(name)[1]
            except ValueError as error:
                failed[name] = str(error)
        if failed:
            first, *others = failed
            raise ValueError(failed[first] + (f"; {', '.join(others)} failed too" if others else ""))
        return entries

    def status(self) -> list[dict[str, object]]:
        """A row for each member: whether its file is there, published accuracy, size, licence, address and checksum."""
        rows = []
        for name, published in self.scale.members.items():
            record, there = self._record(name), self._find(name) is not None
            size = published.megabytes if record is None else record.size / 1e6
            row = {"member": name, "state": "fetched" if there else "not fetched", "megabytes": size}
            row |= {"linear": published.linear_accuracy, "licence": published.licence, "address": published.address}
            rows.append(row | {"checksum": published.checksum})
        return rows

    def _find(self, name: str) -> tuple[Path, Entry] | None:
        published, record = self.scale.member(name), self._record(name)
        if record is None or not self.path(name).is_file():
            return None
        entry = Entry(
            file=self.path(name).name,
            sha256=record.sha256,
            spec={},
            config={},
            step=0,
            data={"name": published.dataset},
            provenance={field: getattr(published, field) for field in ("address", "licence", "source", "checksum")}
            | {"fetched": record.fetched},
            seconds=math.nan,
            history={"loss": [], "knn": [], "probe": []},
            accuracy={"linear": published.linear_accuracy},
        )
        return self.path(name).parent, entry

    def _record(self, name: str) -> Record | None:
        """What is known of the file that last came from a member's address, whether or not it is still there."""
        try:
            record = Record.model_validate_json(beside(self.path(name), ".json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return record if record.address == self.scale.member(name).address else None

    def _fetch(self, name: str) -> tuple[Path, Entry]:
        """Fetch a file, or take the one that somebody put there; in either case only when it is the right one."""
        path = self.path(name)
        with alone(path.with_name(f".{path.name}.lock")):
            if path.is_file() and self._record(name) is None:
                self._keep(name, path)
            elif not path.is_file():  # nobody fetched it meanwhile
                with atomic(path) as partial:
                    self._download(name, partial)
                    self._keep(name, partial)
        return self._find(name)

    def _keep(self, name: str, path: Path) -> None:
        """Write down what a file is that has turned out to be right."""
        self._expect_right(name, path)
        published, today = self.scale.member(name), datetime.datetime.now(datetime.UTC).date().isoformat()
        about = {"sha256": sha256(path), "size": path.stat().st_size, "checksum": published.checksum}
        with atomic(beside(self.path(name), ".json")) as partial:
            record = Record(address=published.address, fetched=today, **about)
            partial.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def _download(self, name: str, partial: Path) -> None:
        argument = f"pool: {self.scale.name}/{name}"
        try:
            download(self.scale.member(name).address, partial, argument)
        except ValueError as error:
            raise ValueError(f"{error} (try again, or put the file at {self.path(name)})") from error

    def _expect_right(self, name: str, path: Path) -> None:
        """``ValueError`` unless a file has its publisher's checksum, is what came before, and holds the encoder."""
        argument, published, before = f"pool: {self.scale.name}/{name}", self.scale.member(name), self._record(name)
        if published.checksum:
            expect_checksum(path, published.checksum, argument)
        if before is not None:
            expect_checksum(path, f"sha256:{before.sha256}", f"{argument}, fetched before on {before.fetched}")
        try:
            self._encoder(published, path)
        except ValueError as error:
            wanted = f"the encoder, a {self.scale.architecture}, from {published.address}"
            raise ValueError(f"{argument}: expected {wanted}, got {one_line(error)}") from error

    def _encoder(self, published: Published, path: Path) -> Encoder:
        state = read_checkpoint(path)
        if published.read is not None:
            return published.read(state)
        return foreign.encoder_from(state, normalisation="imagenet", arch=self.scale.architecture)[0]

    def _read(self, folder: Path, name: str, entry: Entry) -> Encoder:
        path = folder / entry.file
        same = sha256(path) == entry.sha256
        wanted = f"the file with SHA-256 {entry.sha256[:12]}… that was fetched on {entry.provenance['fetched']}"
        expect(same, f"pool: {name}", wanted, f"another at {path}; remove it to fetch it again")
        return self._encoder(self.scale.member(name), path)

    def _shape(self) -> tuple[int, int]:
        return 3, SIDE

    def _untrained(self, seed: int) -> Encoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return torchvision_encoder(self.scale.architecture, pretrained=False).eval()
