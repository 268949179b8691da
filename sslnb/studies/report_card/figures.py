"""Figures of a report card: a Result in, a matplotlib Figure out."""

from matplotlib.figure import Figure

from sslnb.core.labels import NORM_LABELS, label
from sslnb.core.result import Result
from sslnb.report.panels import COLOURS, MARKERS, PAGE, panels, sentence
from sslnb.studies.measures import MEASURES, turned

FLOORS = {"untrained": "x", "pixels": "+"}  # objective and its marker
OUTSIDE = 0.25  # of the pool's range, up to which an encoder beyond it is drawn where it is


def shown(name: str) -> str:
    """An encoder's name for a legend: the end of a path, and a member's objective as everywhere."""
    objective, _, seed = name.rpartition("/")
    if ":" not in name and (objective or name in FLOORS):
        return f"{label(objective or name)}" + (f", seed {seed}" if objective else "")
    return name.rpartition("/")[2] if name.startswith("checkpoint:") else name


def standing(result: Result) -> Figure:
    """Every measure of the given encoders on the range of the pool's, worst to best; floors as crosses."""
    data = result.data["card"]
    better = turned(data.value)
    pool = better.isel(encoder=data.trained.values)
    low, high = pool.min("encoder"), pool.max("encoder")
    places = ((better - low) / (high - low).where(high > low)).clip(-OUTSIDE, 1 + OUTSIDE)
    names = [str(name) for name in data.measure.values if bool(places.sel(measure=name).notnull().any())]
    if not names:
        return sentence("The pool has too few encoders to place another one among them.")
    figure = Figure(figsize=(PAGE, 0.22 * len(names) + 1.0))
    ax = figure.subplots()
    given, drawn = list(data.encoder.values[data.given.values]), set()
    for encoder in sorted(data.encoder.values, key=lambda name: name in given):  # the given ones on top
        style, text = _style(str(encoder), given)
        place = places.sel(measure=names, encoder=encoder)
        ax.plot(place, range(len(names)), linestyle="", label=None if text in drawn else text, **style)
        drawn.add(text)
    ax.axvspan(0, 1, color="#000000", alpha=0.04, linewidth=0)
    ax.set_yticks(range(len(names)), [MEASURES[name].label for name in names])
    ax.invert_yaxis()
    ax.set_xlim(-OUTSIDE - 0.03, 1 + OUTSIDE + 0.03)
    ax.set_xticks([0, 1], ["worst of the pool", "best of the pool"])
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _style(encoder: str, given: list[str]) -> tuple[dict[str, object], str]:
    """How an encoder is drawn, and what the legend calls it."""
    objective = encoder.partition("/")[0]
    if encoder in given:
        i = given.index(encoder)
        marker, colour = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
        return {"marker": marker, "color": colour, "markersize": 7}, shown(encoder)
    if objective in FLOORS:
        return {"marker": FLOORS[objective], "color": "#555555", "markersize": 5}, label(objective)
    return {"marker": "o", "color": "#b0b0b0", "markersize": 4}, "the pool's encoders"


def curves(result: Result) -> Figure:
    """Exact accuracy of the linear probe against how far features of unit variance are moved."""
    data, card = result.data["curves"], result.data["card"]
    given = [str(name) for name in card.encoder.values[card.given.values]]
    figure, axes = panels(len(data.norm))
    for ax, norm in zip(axes[0], data.norm.values, strict=True):
        at, budget = data.accuracy.sel(norm=norm), data.budget.sel(norm=norm)
        for e, name in enumerate(map(str, data.encoder.values)):
            if name not in given:
                dotted = ":" if name.partition("/")[0] in FLOORS else "-"
                ax.plot(budget, 100 * at[e], dotted, color="#b0b0b0", linewidth=0.8)
        for i, name in enumerate(given):
            ax.plot(budget, 100 * at.sel(encoder=name), color=COLOURS[i % len(COLOURS)], label=shown(name))
        ax.set_xlabel(f"budget in {NORM_LABELS[norm]}")
    axes[0, 0].set_ylabel("accuracy, %")
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper center", ncols=2)
    return figure


def layers(result: Result) -> Figure:
    """CKA of each given encoder's layers (rows) with the supervised reference's (columns), from the input upwards."""
    maps = list(result.data["layers"].data_vars.values())
    figure, axes = panels(max(1, len(maps)), height=3.2)
    for ax, values in zip(axes[0], maps, strict=False):
        image = ax.imshow(values, vmin=0, vmax=1, cmap="magma", origin="lower", aspect="auto", interpolation="nearest")
        ax.set_title(shown(values.attrs["encoder"]))
        ax.set_xlabel("layer of the supervised network")
        ax.set_ylabel("layer")
        figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02).set_label("CKA")
    return figure
