"""Results recorded before encoders came from the pool, as named datasets; goes with the last of them."""

from pathlib import Path

import numpy as np
import xarray as xr

from sslnb.core import flat
from sslnb.core.decisions import GATE
from sslnb.core.result import Result
from sslnb.features.linear import LEARNING_RATES, WEIGHT_DECAYS


def separability(path: Path) -> Result:
    """The recorded study of separability; an encoder counts as learned where its probe beats the untrained one's."""
    old = flat.Result.load(path)
    s, a = old.scalars, dict(old.arrays)
    objectives = [{"random": "untrained"}.get(name, name) for name in s["methods"]]
    accuracy = a["accuracy"][:, :, s["datasets"].index(s["pretraining"]["dataset"]), 0]  # [objective, seed]
    learned = accuracy.min(1) >= accuracy[s["methods"].index("random")].max() + GATE
    shared = {
        "objective": objectives,
        "seed": s["seeds"],
        "self_supervised": ("objective", [name in s["self_supervised"] for name in s["methods"]]),
        "learned": ("objective", learned),
    }
    grid = shared | {"dataset": s["datasets"], "scale": s["scales"], "decay": list(WEIGHT_DECAYS)}
    cell = ("objective", "seed", "dataset", "scale")
    # Each probe had the weight decay that validation picked: it stands there, and the others are gaps.
    picked = a["decay"][..., None] == np.array(WEIGHT_DECAYS)  # [objective, seed, dataset, scale, decay]

    def at_decay(values: np.ndarray) -> np.ndarray:
        spread = picked.reshape(*picked.shape, *[1] * (values.ndim - 4))
        return np.where(spread, np.expand_dims(values, 4), np.nan)

    probes = xr.Dataset(
        {
            "accuracy": ((*cell, "decay"), at_decay(a["accuracy"])),
            "validation": ((*cell, "rate", "decay"), a["grid"]),
            "learning_rate": ((*cell, "decay"), at_decay(a["rate"])),
            "converged": ((*cell, "decay"), picked & a["converged"][..., None]),
            "knn": (cell[:3], a["knn"]),
            "classes": ("dataset", s["classes"]),
            "test_images": ("dataset", s["test_images"]),
            "per_class": ("dataset", s["per_class"]),
            "compared_decay": (cell, a["decay"]),
            "picked_decay": (cell, a["decay"]),
        },
        grid | {"rate": list(LEARNING_RATES)},
        {"primary": "unit_norm"},
    )
    separation = xr.Dataset(
        {
            "mean_margin": ((*cell, "decay", "norm"), at_decay(a["mean_margin"])),
            "largest_margin": ((*cell, "decay", "norm"), at_decay(a["largest_margin"])),
            "norm_auc": ((*cell, "decay", "attacked"), at_decay(a["norm_auc"])),
            "effective": ((*cell, "decay", "attacked"), at_decay(a["effective"])),
            "curve": ((*cell, "attacked", "step"), a["curves"]),
            "budget": (("attacked", "step"), a["budgets"]),
            # Bootstraps of the statistics were not recorded.
            "mean_margin_drawn": ((*cell[:3], "norm", "round"), np.full((*a["knn"].shape, len(s["norms"]), 1), np.nan)),
            "norm_auc_drawn": (
                (*cell[:3], "attacked", "round"),
                np.full((*a["knn"].shape, len(s["attacked"]), 1), np.nan),
            ),
            "sample_dataset": ("sample", np.repeat(s["datasets"], s["test_images"])),
            "sample_label": ("sample", np.concatenate([a[f"labels/{name}"] for name in s["datasets"]])),
            "margin": (
                ("objective", "seed", "norm", "sample"),
                np.concatenate([a[f"margins/{n}"] for n in s["datasets"]], 3),
            ),
        },
        grid | {"norm": s["norms"], "attacked": s["attacked"]},
    )
    dims = ("objective", "seed", "attacked", "dot")
    attacked = xr.Dataset(
        {
            "pgd": (dims, a["pgd"]),
            "exact": (dims, a["exact_at_dots"]),
            "multilayer": (dims, a["mlp_pgd"]),
            "multilayer_accuracy": (dims[:2], a["mlp_accuracy"]),
            "dot_budget": (dims[2:], a["dots"]),
        },
        shared | {"attacked": s["attacked"]},
    )
    missing = np.full(a["loss"].shape[:2], np.nan)
    accuracies = dict.fromkeys(("knn_accuracy", "linear_accuracy", "hours"), (("objective", "seed"), missing))
    controls = {"pixels_accuracy": np.nan, "untrained_accuracy": np.nan}
    epochs = {"epoch": 1 + np.arange(a["loss"].shape[2])}
    pretraining = xr.Dataset(
        {"loss": (("objective", "seed", "epoch"), a["loss"]), **accuracies, **controls}, shared | epochs
    )
    data = {"pretraining": pretraining, "probes": probes, "separation": separation, "attacked": attacked}
    note = "Recorded before encoders came from the pool: each study trained its own, for few epochs."
    facts = {"parameters": old.parameters, "provenance": old.provenance, "notes": [note]}
    return Result(old.study, data, facts)


def cka(path: Path) -> Result:
    """The recorded study of layers; its networks count as learned where their kNN beats the untrained one's."""
    old = flat.Result.load(path)
    s, a = old.scalars, old.arrays
    names, seeds, layers, groups = s["methods"], s["seeds"], s["layers"], s["groups"]
    learned = a["accuracy"].min(1) >= s["untrained_accuracy"] + GATE
    pair = {"objective": names, "seed": seeds, "layer": layers}
    pair |= {f"{key}_b": value for key, value in pair.items()}
    dims = ("objective", "seed", "objective_b", "seed_b", "layer", "layer_b")
    similarity = xr.Dataset(
        {
            "cka": (dims, a["cka"]),
            "untrained": ((*dims[:2], *dims[4:]), a["untrained"]),
            "simplex": ((*dims[:2], "group"), a["simplex"]),
            "interval": (("objective", "bound", "layer", "layer_b"), a["interval"]),
            "null": (("objective", "bound", "layer", "layer_b"), a["null"]),
        },
        pair | {"group": groups, "bound": ["low", "high"]},
    )
    own = {"objective": names, "seed": seeds, "group": groups}
    steps = {"objective": names, "step": s["checkpoints"], "step_b": s["checkpoints"], "group": groups}
    itself = np.ones((1, len(s["checkpoints"]), len(groups)))  # supervised with supervised
    training = {
        "own": (("objective", "step", "step_b", "group"), a["training"]),
        "to_supervised": (("objective", "step", "group"), np.concatenate([itself, a["training_across"]])),
    }
    shapes = xr.Dataset(coords={"layer": layers})
    for variant in s["shapes"]:
        dim = f"layer of {variant}"
        shapes = shapes.assign_coords({dim: s["deep_layers"] if "depth" in variant else layers})
        for m, name in enumerate(names):
            shapes[f"{name}, {variant}"] = ("layer", dim), a[f"shape/{m}/{variant}"]
    sizes = {"kind": ["biased", "unbiased"], "size": s["estimate_sizes"], "layer": layers, "layer_b": layers}
    estimates = {"estimate": (tuple(sizes), a["estimate"]), "null": (("kind", "size", "layer"), a["estimate_null"])}
    pairs = ["supervised" if name == "another seed" else name for name in s["index_pairs"]]
    indices = {"objective": pairs, "index": s["indices"], "block": s["index_layers"]}
    neighbours = xr.Dataset(
        {
            "picture": (("sample", "channel", "row", "column"), a["pictures"]),
            "label": ("sample", [s["classes"][k] for k in a["picture_labels"]]),
            "query_sample": ("query", a["queries"]),
            "nearest": (("objective", "layer", "query", "rank"), a["nearest"]),
        },
        {"objective": names, "layer": layers},
    )
    data = {
        "pretraining": _pretraining(names, seeds, a["accuracy"], learned, [name != "supervised" for name in names]),
        "layer_similarity": similarity,
        "invariance": xr.Dataset({"views": (tuple(own), a["views"])}, own),
        "objectives_map": xr.Dataset(
            {"map": (("network", "network_b"), a["map"]), "linkage": (("merge", "field"), a["map_linkage"])},
            {"network": s["map"], "network_b": s["map"]},
        ),
        "training": xr.Dataset(training, steps),
        "shapes": shapes,
        "estimates": xr.Dataset(estimates, sizes),
        "indices": xr.Dataset({"similarity": (tuple(indices), a["indices"])}, indices),
        "neighbours": neighbours,
    }
    facts = {"parameters": old.parameters, "provenance": old.provenance, "notes": [NOTE]}
    return Result(old.study, data, facts)


def contrastive_geometry(path: Path) -> Result:
    """The recorded study of geometry; a run counts as learned where its class means beat the untrained ones'."""
    old = flat.Result.load(path)
    s, a = old.scalars, old.arrays
    names, seeds = zip(*s["runs"], strict=True)
    tasks = [" ".join(map(str, classes)) for classes in s["tasks"]]
    runs = {"objective": ("run", list(names)), "seed": ("run", list(seeds)), "task": tasks}
    both = runs | {"split": s["splits"]}
    along = ("split", "run", "task", "epoch")
    missing = ("run", "task"), np.full(a["accuracy"].shape[1:3], np.nan)
    train, validation = s["task_images"]
    fine_tuning = xr.Dataset(
        {
            "accuracy": (along, a["accuracy"]),
            "accuracy_drawn": (("run", "task", "round"), a["accuracy_drawn"]),
            "standardized_accuracy": missing,
            "confusion": (("run", "task", "epoch", "true", "predicted"), a["confusion"]),
            "class_name": (("task", "true"), [list(map(str, classes)) for classes in s["task_classes"]]),
            "train_images": ("task", [train] * len(tasks)),
            "validation_images": ("task", [validation] * len(tasks)),
        },
        both,
        {"compared": s["methods"]} | {k: s[k] for k in ("compared_images", "surface_images", "attacked_images")},
    )
    trajectories = xr.Dataset(
        {name: (along, a[name]) for name in ("progress", "raw_progress")}
        | {"progress_drawn": (("run", "task", "round", "part"), a["progress_drawn"]), "standardized_progress": missing},
        both | {"part": ["end", "mean"]},
    )
    of = [*tasks, "all tasks"]
    keys = [*map(str, range(len(tasks))), "joint"]
    embeddings = xr.Dataset(
        {
            "embedding": (
                ("split", "task", "point", "component"),
                np.stack([[a[f"embedding/{split}/{t}"] for t in range(len(tasks))] for split in s["splits"]]),
            ),
            "joint": (
                ("split", "joint_point", "component"),
                np.stack([a[f"embedding/{split}/joint"] for split in s["splits"]]),
            ),
            "eigenvalue": (
                ("split", "of", "rank"),
                np.stack([[a[f"eigenvalues/{split}/{key}"] for key in keys] for split in s["splits"]]),
            ),
            "distance": (("split", "task", "run", "run_b"), a["apart"]),
        },
        both | {"of": of},
    )
    side = a["surface_at"]
    surfaces = xr.Dataset(
        {"loss": (("objective", "alpha", "beta"), a["surfaces"]), "gaps": ("objective", s["gaps"])},
        {"objective": s["methods"], "alpha": side, "beta": side},
    )
    attacked = ("run", "task", "budget")
    robustness = xr.Dataset(
        {
            "fgsm": (("split", *attacked), a["fgsm"]),
            "fgsm_normalised": (attacked, a["fgsm_normalised"]),
            "kept_drawn": (("run", "task", "round"), np.zeros((len(names), len(tasks), 2))),
            "pgd": (("run", "task", "pgd_budget"), a["pgd"]),
            "std": ("channel", s["std"]),
        },
        both | {"budget": s["budgets"], "pgd_budget": s["pgd_budgets"]},
    )
    paths = [names[r] for r in s["pretraining_runs"]]
    bank, test = s["pretraining_images"]
    along_pretraining = xr.Dataset(
        {
            "progress": (("objective", "step"), a["pretraining_progress"]),
            "accuracy": (("objective", "step"), a["pretraining_accuracy"]),
            "embedding": (("point", "component"), a["embedding/pretraining"]),
        },
        {"objective": paths, "step": s["pretraining_steps"]},
        {"bank_images": bank, "test_images": test},
    )
    gain = a["pretraining_accuracy"][:, -1] - a["pretraining_accuracy"][:, 0]
    objectives = list(dict.fromkeys(names))
    learned = [min(g for g, path in zip(gain, paths, strict=True) if path == name) >= GATE for name in objectives]
    knn = np.full((len(objectives), len(s["seeds"])), np.nan)
    kinds = [name not in ("supervised", "supcon") for name in objectives]
    relations = xr.Dataset(
        {
            "value": (("quantity", "run"), a["quantities"]),
            "correlation": (("bound", "quantity", "quantity_b"), a["relations"]),
        },
        {"quantity": s["quantities"], "quantity_b": s["quantities"], "bound": ["value", "low", "high"]},
    )
    flatness = {name: ("run", a["flatness"][:, k]) for k, name in enumerate(s["flatness"])}
    data = {
        "pretraining": _pretraining(objectives, s["seeds"], knn, learned, kinds),
        "fine_tuning": fine_tuning,
        "surfaces": surfaces,
        "flat": xr.Dataset(flatness, runs),
        "trajectories": trajectories,
        "embeddings": embeddings,
        "robustness": robustness,
        "along_pretraining": along_pretraining,
        "relations": relations,
    }
    facts = {"parameters": old.parameters, "provenance": old.provenance, "notes": [NOTE]}
    return Result(old.study, data, facts)


def simclr_rotnet(path: Path) -> Result:
    """The recorded study of SimCLR and RotNet; what learned is judged by its accuracy at the last step."""
    old = flat.Result.load(path)
    s, a = old.scalars, old.arrays
    seeds, scores = {"seed": s["seeds"]}, {"score": s["scores"]}
    names = [{"random": "untrained"}.get(name, name) for name in s["references"]]
    bar = np.nanmax(a["references"][:2, :, 0]) + GATE

    def made(values: np.ndarray, **dims: object) -> xr.DataArray:
        return xr.DataArray(values, {k: list(v) for k, v in dims.items() if v is not None}, tuple(dims))

    linear = xr.Dataset(
        {
            "accuracy": made(
                a["linear"], objective=s["objectives"], batch=s["batch_sizes"], step=s["steps"], **seeds, **scores
            ),
            "references": made(a["references"], reference=names, **seeds, **scores),
        },
        attrs={"classes": s["classes"], "test_images": s["test_images"]},
    )
    tuned = made(a["fractions"], begun=s["tuned"], fraction=s["fractions"], **seeds, **scores)
    fractions = xr.Dataset({"tuned": tuned}, attrs={"step": s["tuned_step"], "labelled": s["labelled"]})
    pixels = {"channel": None, "row": None, "column": None}
    attack = xr.Dataset(
        {
            "accuracy": made(
                a["robust"],
                attack=s["attacks"],
                unit=s["units"],
                begun=s["tuned"],
                fraction=s["fractions"],
                budget=range(a["budgets"].shape[1]),
                **seeds,
            ),
            "eps": made(a["budgets"], unit=s["units"], budget=range(a["budgets"].shape[1])),
            "example_image": made(a["example_image"], sample=None, **pixels),
            "example_label": made(a["example_label"], sample=None),
            "example_adversarial": made(a["example_found"], batch=None, sample=None, budget=None, **pixels),
            "example_believed": made(a["example_believed"], **dict.fromkeys(("batch", "sample", "budget", "class"))),
        },
        attrs={"attacked_images": s["attacked_images"], "classes": s["classes"]},
    )
    ways = ("to the target", "from the target")
    transfer = xr.Dataset(
        {
            "over_steps": made(
                a["transfer_steps"], way=ways, begun=s["transferred"], step=s["steps"], **seeds, **scores
            ),
            "over_batches": made(a["transfer_batches"], side=s["sizes"], batch=s["batch_sizes"], **seeds, **scores),
        },
        attrs={
            "source": s["pretraining"]["dataset"],
            "target": s["target"],
            "target_test_images": s["target_images"]["test"],
            "middle": old.parameters["variant_batch"],
        },
    )
    quantities = {"repeat": [0], "quantity": ["seconds", "views", "memory"]}
    shape = {"objective": s["objectives"], "depth": s["depths"]}
    architectures = xr.Dataset(
        {
            "accuracy": made(a["architectures"], **shape, **seeds, **scores),
            "cost": made(a["step_cost"][:, :, None], **shape, **quantities),
        }
    )
    published_code = xr.Dataset(
        {
            "accuracy": made(a["variants"], departure=s["variants"], objective=s["objectives"], **seeds, **scores),
            "transfer_cut": made(a["transfer_cut"], step=s["steps"], **seeds, **scores),
            "initialised": made(
                a["initialised"], begun=["supervised", *s["objectives"]], fraction=s["fractions"], **seeds, **scores
            ),
        }
    )
    variants, learned = [], []
    for o, objective in enumerate(s["objectives"]):
        for b, batch in enumerate(s["batch_sizes"]):
            variants.append(f"{objective}-b{batch}")
            learned.append(bool(a["linear"][o, b, -1, :, 0].min() >= bar))
        variants.append(f"{objective}-deep")
        learned.append(bool(a["architectures"][o, 1, :, 0].min() >= bar))
    knn = np.full((len(variants), len(s["seeds"])), np.nan)
    data = {
        "pretraining": _pretraining(variants, s["seeds"], knn, learned, [True] * len(variants)),
        "linear": linear,
        "fractions": fractions,
        "attack": attack,
        "transfer": transfer,
        "architectures": architectures,
        "published_code": published_code,
    }
    notes = [NOTE, *(f"{what}: {why}" for what, why in s["reasons"].items())]
    return Result(old.study, data, {"parameters": old.parameters, "provenance": old.provenance, "notes": notes})


PIXELS = 0.39  # linear accuracy of CIFAR-10's raw pixels, which the recorded runs did not measure


def qscore(path: Path) -> Result:
    """The recorded study of the Q-Score; a method counts as learned where its probe beats raw pixels."""
    old = flat.Result.load(path)
    s, a = old.scalars, dict(old.arrays)
    methods, seeds = s["methods"], s["seeds"]
    learned = [float(np.nan_to_num(row).min()) >= PIXELS + GATE for row in a["accuracy"][0]]
    shared = {
        "objective": methods,
        "seed": seeds,
        "self_supervised": ("objective", [name in s["self_supervised"] for name in methods]),
        "learned": ("objective", learned),
    }
    sets = shared | {"dataset": s["datasets"]}
    key = ("dataset", "objective", "seed")
    p = old.parameters
    representations = xr.Dataset(
        {name: (key, a[name]) for name in ("accuracy", "near_zero", "kurtosis")}
        | {
            "activations": (("objective", "row", "feature"), a["activations"]),
            "magnitudes": (("objective", "bin"), a["magnitudes"]),
            "test_images": ("dataset", s["test_images"]),
        },
        sets,
        {"epsilon": p["epsilon"], "low": p["low"], "high": p["high"]},
    )
    missing = (*key, "band"), np.full_like(a["information"], np.nan)
    first = {"example": "example", "explorer": "shown", "sample": "sample"}
    drawn = {
        name: ([first[name.partition("_")[0]], *(f"{name}_{i}" for i in range(1, v.ndim))], v)
        for name, v in a.items()
        if name.partition("_")[0] in first
    }
    grid = (*key, "epsilon", "low")
    features = xr.Dataset(
        {"information": ((*key, "band"), a["information"]), "relative_information": missing}
        | {name: (grid, a[name]) for name in ("sensitivity", "empty")}
        | {"rate": ((*key, "feature"), a["rates"])}
        | {name: v for name, v in drawn.items() if not name.startswith("sample")},
        sets | {"band": s["bands"], "epsilon": s["epsilons"], "low": s["lows"]},
        {"pictured": s["pictured"], "classes": s["classes"]},
    )
    subset = {"subset": s["subsets"], "share": s["shares"]}
    subset_probes = xr.Dataset({"accuracy": ((*key, *subset), a["subsets"])}, sets | subset)
    outcomes = xr.Dataset(
        {
            "score": ((*key, "outcome"), a["score_by_outcome"]),
            "by_class": (("outcome", "class", "shown_feature"), a["by_class"]),
        },
        sets | {"outcome": ["right", "wrong"]},
        {"classes": s["classes"]},
    )
    areas = {name: ((*key, "predictor"), a[name]) for name in ("auroc", "auprc")}
    areas |= {f"{name}_drawn": ((*key, "predictor", "round"), a[f"{name}_drawn"]) for name in ("auroc", "auprc")}
    predict = xr.Dataset(
        areas | {"base_rate": (key, a["base_rate"]), "curves": ((*key, "curve", "x"), a["curves"])},
        sets
        | {"predictor": s["predictors"], "curve": ["roc", "precision"], "x": np.linspace(0, 1, a["curves"].shape[-1])},
    )
    regularize = xr.Dataset(
        {
            "before": ((*key, "gauge"), a["before"]),
            "after": ((*key, "rate", "variant", "gauge"), a["after"]),
            "chosen_rate": ("objective", np.full(len(methods), s["rates"][-1])),
            "plain_validation": (("objective", "rate"), np.full((len(methods), len(s["rates"])), np.nan)),
        },
        sets | {"rate": s["rates"], "variant": s["variants"], "gauge": s["gauges"]},
    )
    weights = {"weight": s["weights"], "norm_weight": s["norm_weights"], "seed": seeds, "gauge": s["gauges"]}
    ablation = xr.Dataset({"gauges": (tuple(weights), a["ablation"])}, weights, {"ablated": s["ablated"]})
    transfer = xr.Dataset(
        {"accuracy": (("target", "objective", "seed", "stage"), a["transfer"])},
        shared | {"target": s["targets"], "stage": s["stages"]},
    )
    masks = {"masked": s["masked"], "masked_b": s["masked"], "stage": s["stages"]}
    area = a["mask_area"].reshape(-1, 1, 1, 1)
    heatmaps = xr.Dataset(
        {
            "overlap": (("masked", "objective", "seed", "stage", "region", "outcome"), a["overlap"]),
            "lift": (("masked", "objective", "seed", "stage"), 2 * (a["overlap"][..., 0, :].mean(-1) - area)),
            "shifted": (("masked", "masked_b", "objective", "seed", "measure"), a["shifted"]),
            "area": ("masked", a["mask_area"]),
        }
        | {name: v for name, v in drawn.items() if name.startswith("sample")},
        shared
        | masks
        | {"measure": ["accuracy", "score", "auroc"], "region": ["core", "spurious"], "outcome": ["right", "wrong"]},
        {"classes": s["classes"]},
    )
    knn = np.full((len(methods), len(seeds)), np.nan)
    data = {
        "pretraining": _pretraining(methods, seeds, knn, learned, [name in s["self_supervised"] for name in methods]),
        "representations": representations,
        "features": features,
        "subset_probes": subset_probes,
        "outcomes": outcomes,
        "predict": predict,
        "regularize": regularize,
        "ablation": ablation,
        "transfer": transfer,
        "heatmaps": heatmaps,
    }
    notes = [NOTE, *(f"{what}: {why}" for what, why in s["reasons"].items())]
    return Result(old.study, data, {"parameters": p, "provenance": old.provenance, "notes": notes})


def _pretraining(
    names: list[str], seeds: list[int], knn: np.ndarray, learned: np.ndarray, self_supervised: list[bool]
) -> xr.Dataset:
    """What every study says of its encoders; only kNN accuracies were recorded, on test images."""
    values = {name: (("objective", "seed"), np.full(knn.shape, np.nan)) for name in ("linear_accuracy", "hours")}
    values["knn_accuracy"] = ("objective", "seed"), knn
    kinds = {"self_supervised": ("objective", self_supervised), "learned": ("objective", learned)}
    controls = {"pixels_accuracy": np.nan, "untrained_accuracy": np.nan}
    return xr.Dataset(values | controls, {"objective": names, "seed": seeds} | kinds)


NOTE = "Recorded before encoders came from the pool: each study trained its own, for few steps."
