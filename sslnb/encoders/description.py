"""What an encoder's name stands for, in words: what of a file loads and what not, what the encoder takes and gives."""

import collections
import dataclasses
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from sslnb.core.files import home
from sslnb.encoders import foreign
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.load import OPTIONS, load_encoder, read_checkpoint
from sslnb.encoders.wrapped import smallest_side

NAMES = ("resnet18", "resnet34", "resnet50")  # that are no file's, as load_encoder has them


def named(text: str) -> str:
    """What :func:`load_encoder` is given for a text: the text, or the checkpoint of that path."""
    is_file = home(text.partition("?")[0]).is_file()
    return text if (":" in text or text in NAMES) and not is_file else f"checkpoint:{text}"


def describe(spec: str) -> Iterator[str]:
    """Lines about an encoder that :func:`load_encoder` takes; ends with its ``ValueError`` where it would refuse."""
    kind, _, rest = spec.partition(":")
    if kind == "checkpoint":
        yield from _file(rest)
    yield from _encoder(load_encoder(spec))


def _file(name: str) -> Iterator[str]:
    """What a checkpoint holds, whether or not all that an encoder needs is there."""
    path, _, asked = name.partition("?")
    options = dict(urllib.parse.parse_qsl(asked, keep_blank_values=True))
    state = read_checkpoint(path)
    if {"spec", "encoder"} <= set(state) and not options:
        weights = state["encoder"] if isinstance(state["encoder"], Mapping) else {}
        yield f"written by this package: {state['spec']}"
        yield f"loads: {len(weights)} tensors under encoder"
        yield f"left aside: {', '.join(sorted(set(state) - {'spec', 'encoder'})) or 'nothing'}"
        return
    try:
        layout, own = foreign.describe(state, **{k: v for k, v in options.items() if k in OPTIONS[:-1]})
    except ValueError:  # which load_encoder raises too
        yield f"holds: {_grouped(_tensors(state)) or 'no tensors'}"
        return
    where = f" under {layout.place}" if layout.place else ""
    yield f"{layout.architecture}, {layout.stem} stem, {layout.channels} channels: {len(own)} tensors{where}"
    yield f"prefix {layout.prefix!r}" + (f", as {layout.project} has it" if layout.project else "")
    yield f"left aside: {_grouped(layout.aside) or 'nothing'}"
    yield from _differences(layout, own)
    if "normalisation" not in options:
        yield f"normalisation: by its stem; ?normalisation={'|'.join(foreign.NORMALISATIONS)} says otherwise"


def _differences(layout: foreign.Layout, own: foreign.State) -> Iterator[str]:
    """Parameters that the architecture has and the file lacks, or has in other shapes, or too many."""
    known = foreign.ForeignResNet(dataclasses.replace(layout, aside=())).body.state_dict()
    counted = {name for name in known if not name.endswith("num_batches_tracked")}  # which older torch did not write
    wrong = [
        f"{n} {list(own[n].shape)}, not {list(known[n].shape)}" for n in own if n in known and _other(own, known, n)
    ]
    for what, names in (
        ("missing", sorted(counted - set(own))),
        ("of no parameter", sorted(set(own) - set(known))),
        ("of another shape", wrong),
    ):
        if names:
            yield f"{what}: {', '.join(names)}"


def _other(own: foreign.State, known: foreign.State, name: str) -> bool:
    return own[name].shape != known[name].shape


def _tensors(state: Mapping, prefix: str = "") -> Iterator[str]:
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{name}.")


def _grouped(names: Iterable[str]) -> str:
    """Names by their first two words, with how many there are."""
    groups = collections.Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{name} ({count})" for name, count in groups.items())


def _encoder(encoder: Encoder) -> Iterator[str]:
    """What an encoder takes and gives."""
    least = smallest_side(encoder)
    made_for = f"made for {encoder.side} px" if encoder.side else "made for no size"
    yield f"takes: {encoder.in_channels} channels, from {least or 'no'} px, {made_for}"
    mean, std = (", ".join(f"{v:.4g}" for v in values.flatten().tolist()) for values in (encoder.mean, encoder.std))
    yield f"normalises: by the mean {mean} and the deviation {std}"
    gradient = "" if encoder.differentiable else ", without a gradient in the images, which attacks need"
    yield f"gives: {encoder.feature_dim:,} features{gradient}"
    yield f"layers: {', '.join(encoder.layer_names) or 'none'}"
