"""Other projects' checkpoints of ResNets as encoders: layout and architecture are read off the file and its weights.

Nothing loads in part: every tensor is either a parameter of the encoder or listed as left aside, and a parameter
without a tensor refuses the file.
"""

import dataclasses
import re
from collections.abc import Mapping

from torch import Tensor, nn

from sslnb.core.checks import expect, expect_known
from sslnb.encoders.encoder import Encoder
from sslnb.encoders.wrapped import IMAGENET, Wrapped

State = Mapping[str, Tensor]

# Mean and deviation over CIFAR-10's training images, as solo-learn writes them.
CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
NORMALISATIONS = {"imagenet": IMAGENET, "cifar": CIFAR, "none": PLAIN}
DEPTHS = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
# Where projects keep what they trained, tried in this order: a path of keys into the file, and who writes it so.
PLACES = (
    (("classy_state_dict", "base_model", "model", "trunk"), "VISSL"),
    (("model_state_dict",), ""),
    (("state_dict",), ""),
    (("teacher",), "DINO"),
    (("student",), "DINO, student"),
    (("online_network_state_dict",), "BYOL"),
    (("model",), ""),
    (("net",), ""),
    ((), "a plain state dict"),
)
HABITS = {"module.encoder_q.": "MoCo", "module.encoder.": "SimSiam or SupContrast", "module.backbone.": "Barlow Twins"}
# What projects put behind the encoder, under the same prefix; the last two are SwAV's.
HEADS = re.compile(r"(fc|head|linear|classifier|projection_head|prototypes)\b")
# Encoders that follow another one, or are an earlier state of it: not what a project reports.
FOLLOWERS = ("encoder_k", "momentum", "target", "teacher_", "key_encoder", "_ema", "ema_")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a file holds: where its encoder lies, of which architecture, and what is left aside."""

    place: str  # keys that lead to the tensors, joined by dots
    project: str  # whose habit that is, where one can tell
    prefix: str  # of the encoder's parameters
    architecture: str  # such as "resnet50"
    stem: str  # imagenet: 7 × 7 of stride 2 and pooling; cifar: 3 × 3 of stride 1
    padding: int  # of the stem's convolution
    activation: bool  # behind the stem: lightly's networks, cut open, lose theirs
    width_per_group: int
    groups: int
    channels: int
    aside: tuple[str, ...]  # tensors that are no part of the encoder


def describe(
    state: Mapping[str, object],
    *,
    prefix: str | None = None,
    arch: str | None = None,
    stem: str | None = None,
    padding: str | None = None,
) -> tuple[Layout, State]:
    """The layout of a file's contents, and its encoder's parameters; ``ValueError`` says what is missing or unclear.

    ``prefix``, ``arch``, ``stem`` and ``padding`` settle what can't be read off, or contradict what can.
    """
    place, project, tensors, bare = _tensors(state)
    prefix = _prefix(tensors) if prefix is None else prefix
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    expect("conv1.weight" in own, "prefix", f"one before 'conv1.weight', such as {_prefixes(tensors)}", repr(prefix))
    blocks = tuple(_count(own, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in own
    read = DEPTHS.get((bottleneck, blocks))
    expect(read is not None, "checkpoint", "a ResNet of 18, 34, 50, 101 or 152 layers", f"stages of {blocks} blocks")
    expect(arch in (None, read), "arch", f"{read}, as the weights are", arch)
    kernel, channels = own["conv1.weight"].shape[-1], own["conv1.weight"].shape[1]
    expect(own["conv1.weight"].shape[0] == 64, "checkpoint", "64 filters in the stem", own["conv1.weight"].shape[0])
    seen = {7: "imagenet", 3: "cifar"}.get(kernel)
    expect(seen is not None, "checkpoint", "a stem of 7 × 7 or 3 × 3", f"{kernel} × {kernel}")
    expect(stem in (None, seen), "stem", f"{seen}, as the weights are", stem)
    own = {name: value for name, value in own.items() if not HEADS.match(name)}
    # solo-learn's stem for small images is padded by 2, all others' by 1: the weights do not tell.
    solo = "pytorch-lightning_version" in state and any(name.startswith("classifier.") for name in tensors)
    expect(padding is None or padding.isdigit(), "padding", "a number of pixels", padding)
    padded = {"imagenet": 3, "cifar": 2 if solo else 1}[seen] if padding is None else int(padding)
    layout = Layout(
        place=place,
        project=project or _project(state, prefix),
        prefix=prefix,
        architecture=read,
        stem=seen,
        padding=padded,
        activation=prefix not in bare,
        **_widths(own, bottleneck),
        channels=channels,
        aside=tuple(name for name in tensors if name.removeprefix(prefix) not in own or not name.startswith(prefix)),
    )
    return layout, own


def _tensors(state: Mapping[str, object]) -> tuple[str, str, State, set[str]]:
    """The first known place in a file that holds tensors, by name; prefixes of networks without an activation last."""
    for path, project in PLACES:
        inner: object = state
        for key in path:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, Mapping) else {}
        tensors, bare = _as_torchvision_names(tensors)
        if _prefixes(tensors):
            return ".".join(path), project, tensors, bare
    known = ", ".join(".".join(path) for path, _ in PLACES if path)
    expect(False, "checkpoint", f"a ResNet's parameters, alone or under one of {known}", sorted(map(str, state))[:8])


def _as_torchvision_names(tensors: State) -> tuple[State, set[str]]:
    """Tensors with the names that torchvision's ResNet gives its own, wherever others stand.

    SupContrast and lightly call ``downsample`` a shortcut; a ResNet cut open, ``nn.Sequential(*children)``, as it is in
    lightly's examples, numbers its parts, with the activation and pooling (4 is the first stage) or without (2): the
    prefixes of these come second.
    """
    bare: set[str] = set()
    shortcut = re.compile(r"(\b(?:layer)?\d\.\d+\.)shortcut\.")
    tensors = {shortcut.sub(r"\1downsample.", name): value for name, value in tensors.items()}
    for first in (2, 4):
        parts = {"0": "conv1", "1": "bn1"} | {str(first + k): f"layer{k + 1}" for k in range(4)}
        ends = ("0.weight", "1.running_mean", f"{first}.0.conv1.weight", f"{first + 3}.0.conv1.weight")
        starts = [name.removesuffix(ends[-1]) for name in tensors if name.endswith(ends[-1])]
        for start in (start for start in starts if all(start + end in tensors for end in ends)):
            bare |= {start} if first == 2 else set()
            renamed = {f"{start}{number}.": f"{start}{part}." for number, part in parts.items()}
            tensors = {_with_start_of(name, renamed): value for name, value in tensors.items()}
    return tensors, bare


def _with_start_of(name: str, renamed: Mapping[str, str]) -> str:
    """A name whose beginning has another name now."""
    return next((new + name.removeprefix(old) for old, new in renamed.items() if name.startswith(old)), name)


def _prefixes(tensors: State) -> list[str]:
    """What stands before the parameters of every ResNet among the tensors."""
    ends = "conv1.weight"
    starts = [name.removesuffix(ends) for name in tensors if name.endswith(ends)]
    return [start for start in starts if f"{start}layer1.0.conv1.weight" in tensors]


def _prefix(tensors: State) -> str:
    """The one that was trained, of an encoder and those that follow it."""
    every = _prefixes(tensors)
    leading = [start for start in every if not any(word in start for word in FOLLOWERS)]
    expect(len(leading) == 1, "prefix", "one encoder, or its prefix named", f"those after {every}")
    return leading[0]


def _count(own: State, pattern: str) -> int:
    numbers = {int(match[1]) for name in own if (match := re.match(pattern, name))}
    return 1 + max(numbers, default=-1)


def _widths(own: State, bottleneck: bool) -> dict[str, int]:
    """Width and number of the groups of a bottleneck's middle convolution, as torchvision counts them."""
    if not bottleneck:
        return {"width_per_group": 64, "groups": 1}
    out, within = own["layer1.0.conv2.weight"].shape[:2]
    return {"width_per_group": within, "groups": out // within}


def _project(state: Mapping[str, object], prefix: str) -> str:
    """Who writes such files, as far as their names tell."""
    if "pytorch-lightning_version" in state:
        return "solo-learn or another of Lightning's"
    return HABITS.get(prefix, "")


def rebuilt(layout: Mapping[str, object], normalisation: str) -> Encoder:
    """The architecture of a layout that an encoder's ``spec`` holds, without trained weights."""
    network = ForeignResNet(Layout(**{**layout, "aside": ()}))
    expect_known(normalisation, tuple(NORMALISATIONS), "normalisation")
    mean, std = NORMALISATIONS[normalisation]
    if normalisation == "none":
        mean, std = (0.0,) * network.layout.channels, (1.0,) * network.layout.channels
    channels = network.layout.channels
    expect(len(mean) == channels, "normalisation", f"'none', for images of {channels} channels", repr(normalisation))
    spec = {"family": "foreign", "layout": dict(layout), "normalisation": normalisation}
    side = 224 if network.layout.stem == "imagenet" else 32
    return Wrapped(network, spec=spec, mean=mean, std=std, side=side)


class ForeignResNet(nn.Module):
    """torchvision's ResNet with the stem of a layout, and features instead of classes."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        import torchvision

        self.layout = layout
        kinds = {name: key for key, name in DEPTHS.items()}
        bottleneck, blocks = kinds[layout.architecture]
        models = torchvision.models.resnet
        block = models.Bottleneck if bottleneck else models.BasicBlock
        widths = {"groups": layout.groups, "width_per_group": layout.width_per_group}
        self.body = models.ResNet(block, list(blocks), **widths)
        kernel, stride = (7, 2) if layout.stem == "imagenet" else (3, 1)
        shape = {"kernel_size": kernel, "stride": stride, "padding": layout.padding, "bias": False}
        self.body.conv1 = nn.Conv2d(layout.channels, 64, **shape)
        if not layout.activation:
            self.body.relu = nn.Identity()
        if layout.stem == "cifar":
            self.body.maxpool = nn.Identity()
        self.body.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def encoder_from(
    state: Mapping[str, object], *, normalisation: str | None = None, **named: str
) -> tuple[Encoder, Layout]:
    """The encoder in a file's contents, in evaluation mode, with its layout.

    Images are normalised as ``normalisation`` says (imagenet, cifar or none); unless given, as ImageNet's for a stem of
    7 × 7 and as CIFAR-10's for one of 3 × 3, which is what the projects do.
    """
    layout, own = describe(state, **named)
    normalisation = normalisation or {"imagenet": "imagenet", "cifar": "cifar"}[layout.stem]
    expect(normalisation in NORMALISATIONS, "normalisation", f"one of {list(NORMALISATIONS)}", normalisation)
    encoder = rebuilt(dataclasses.asdict(layout) | {"aside": ()}, normalisation)
    fill(encoder.model.body, own, layout.architecture)
    return encoder.eval(), layout


def fill(body: nn.Module, own: State, architecture: str) -> None:
    """Give a network its parameters; ``ValueError`` where one is missing, too many, or of another shape."""
    known = body.state_dict()
    missing, extra = sorted(set(known) - set(own)), sorted(set(own) - set(known))
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]  # which older torch did not count
    expect(not missing, "checkpoint", f"all parameters of {architecture}", f"none for {missing[:4]}")
    expect(not extra, "checkpoint", f"parameters of {architecture} alone", f"also {extra[:4]}")
    wrong = [name for name in own if own[name].shape != known[name].shape]
    expect(not wrong, "checkpoint", f"the shapes of {architecture}", f"others for {wrong[:4]}")
    body.load_state_dict(known | dict(own))
