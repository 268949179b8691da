"""How claims G1 to G5 are decided; written before any result was looked at.

SupCE is the supervised objective. Effects are one per seed, of the runs of SimCLR, SupCon and SupCE with that seed; on
validation images, as the paper's text has it (its figures were drawn from training images). Intervals of progress and
of accuracies contain the choice of validation images, those of flatness, robustness and distances are over seeds only.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sslnb.core.claims import Claim, Verdict, combine, decide
from sslnb.core.flat import Result
from sslnb.core.labels import label

CLAIMS = {
    "G1": Claim(
        "G1",
        "After fine-tuning the three methods sit in comparably flat minima.",
        "result 1, figure 1a",
        "1 minus the size of the binary logarithm of the ratio of two methods' flatness: positive within [0.5, 2]",
    ),
    "G2": Claim(
        "G2",
        "SimCLR ends closer to the truth than SupCE on most tasks; SupCon progresses slowest.",
        "result 2, figure 2a",
        "final progress of SimCLR minus SupCE's, the lower median over tasks: positive where it is on most; mean "
        "progress over epochs and tasks of each other method minus SupCon's",
    ),
    "G3": Claim(
        "G3",
        "SimCLR is the most robust to FGSM.",
        "result 3, figure 2b",
        "area under accuracy against budget of SimCLR minus the greatest of the others, per task and attack",
    ),
    "G4": Claim(
        "G4",
        "Accuracies on the tasks are comparable, and SimCLR is ahead on some.",
        "table 1",
        "0.08 (the table's widest gap, 7.3 points, rounded up) minus the gap between the methods' accuracies; "
        "SimCLR minus the better of the others on the task where it is furthest ahead with the other seeds",
    ),
    "G5": Claim(
        "G5",
        "Seeds of one method follow nearly the same trajectory, methods different ones, and all progress steadily.",
        "figure 1b",
        "distance to other methods' runs minus that to other seeds', at equal epochs; share of epochs with rising "
        "progress minus 0.9, per method",
    ),
}
THREE = ("simclr", "supcon", "supervised")
COMPARABLE = 0.08
STEADY = 0.9
MEASURES = ("rise", "eigenvalue", "trace")
BOUNDS = {"G5": 1 - STEADY}  # where all epochs rise

Part = tuple[str, np.ndarray, np.ndarray | tuple]  # what is compared, effects [S], replicates of their mean


def decide_all(result: Result) -> tuple[list[Verdict], list[dict]]:
    """Verdicts on G1 to G5, and the comparisons that they are made of."""
    verdicts, parts = [], []
    for name, compare in COMPARISONS.items():
        decided = []
        for what, effects, replicates in compare(result):
            decided.append(decide(CLAIMS[name], effects, replicates, bound=BOUNDS.get(name, np.nan)))
            parts.append({"of": what, **decided[-1].as_dict()})
        verdicts.append(combine(CLAIMS[name], decided))
    return verdicts, parts


def positions(result: Result) -> dict[str, list[int]]:
    """Runs of the three methods, by seed; of fewer methods, where not all were trained with all seeds."""
    runs = [tuple(run) for run in result.scalars["runs"]]
    runs_of = {m: [runs.index((m, s)) if (m, s) in runs else -1 for s in result.scalars["seeds"]] for m in THREE}
    return {m: at for m, at in runs_of.items() if -1 not in at}


def _three(result: Result) -> dict[str, list[int]]:
    """The runs, or none where one of the methods is missing: then nothing is tested."""
    runs_of = positions(result)
    return runs_of if len(runs_of) == len(THREE) else {}


def area(accuracy: np.ndarray, budgets: Sequence[float]) -> np.ndarray:
    """Area [...] under accuracy [..., B] against the budget, over the greatest budget: the mean accuracy."""
    return np.trapezoid(accuracy, budgets, axis=-1) / budgets[-1]


def _flat(result: Result) -> Iterator[Part]:
    at, names = _three(result), result.scalars["flatness"]
    for measure in MEASURES if at else ():
        values = result.arrays["flatness"][:, names.index(measure)]
        for a, b in itertools.combinations(THREE, 2):
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.log2(values[at[a]] / values[at[b]])  # NaN where one of them is not positive
            yield f"{measure}, {label(a)} and {label(b)}", 1 - np.abs(ratio), ()


def _progress(result: Result) -> Iterator[Part]:
    at = _three(result)
    if not at:
        return
    along, replicates = result.arrays["progress"][1], result.arrays["progress_drawn"]  # [R,T,E+1], [R,T,rounds,2]
    end = along[at["simclr"]][..., -1] - along[at["supervised"]][..., -1]
    redrawn = replicates[at["simclr"]][..., 0] - replicates[at["supervised"]][..., 0]
    most = (end.shape[1] - 1) // 2  # of the sorted tasks: positive where more than half of them are
    yield "SimCLR's end minus SupCE's, most tasks", np.sort(end, 1)[:, most], np.sort(redrawn, 1)[:, most].mean(0)
    for other in ("simclr", "supervised"):
        gap = along[at[other]].mean((1, 2)) - along[at["supcon"]].mean((1, 2))
        redrawn = (replicates[at[other]][..., 1] - replicates[at["supcon"]][..., 1]).mean((0, 1))
        yield f"mean progress, {label(other)} minus SupCon", gap, redrawn


def _robust(result: Result) -> Iterator[Part]:
    at = _three(result)
    kinds = {"FGSM": (result.arrays["fgsm"][1], "budgets"), "PGD": (result.arrays["pgd"], "pgd_budgets")}
    for kind, (accuracy, budgets) in kinds.items() if at else ():
        areas = area(accuracy, result.scalars[budgets])  # [R,T]
        best = np.maximum(areas[at["supcon"]], areas[at["supervised"]])
        for t in range(areas.shape[1]):
            yield f"{kind}, task {t + 1}", areas[at["simclr"], t] - best[:, t], ()


def _comparable(result: Result) -> Iterator[Part]:
    at = _three(result)
    if not at:
        return
    accuracy = result.arrays["accuracy"][1, ..., -1]  # [R,T]
    by_method = np.stack([accuracy[at[m]] for m in THREE])  # [3,S,T]
    replicates = np.stack([result.arrays["accuracy_drawn"][at[m]] for m in THREE])  # [3,S,T,rounds]
    for t in range(accuracy.shape[1]):
        yield (
            f"gap, task {t + 1}",
            COMPARABLE - np.ptp(by_method[..., t], 0),
            COMPARABLE - np.ptp(replicates[:, :, t], 0).mean(0),
        )
    ahead = by_method[0] - by_method[1:].max(0)  # [S,T]
    effects, redrawn = [], []
    for s in range(len(ahead)):
        others = np.delete(ahead, s, 0)
        task = int(others.mean(0).argmax()) if len(others) else 0
        effects.append(ahead[s, task] if len(others) else np.nan)
        redrawn.append(replicates[0, s, task] - replicates[1:, s, task].max(0))
    yield "SimCLR ahead on its best task", np.array(effects), np.mean(redrawn, 0)


def _alike(result: Result) -> Iterator[Part]:
    at = _three(result)
    distances = result.arrays["apart"][1].mean(0)  # over tasks, [R,R]
    for method, own in at.items():
        others = [r for m, runs in at.items() if m != method for r in runs]
        seeds = np.array([np.mean([distances[r, q] for q in own if q != r]) if len(own) > 1 else np.nan for r in own])
        yield f"{label(method)}: other methods minus other seeds", distances[np.ix_(own, others)].mean(1) - seeds, ()
    for method, own in at.items():
        rising = (np.diff(result.arrays["progress"][1, own], axis=-1) > 0).mean((1, 2))
        yield f"{label(method)}: rising", rising - STEADY, ()


COMPARISONS: dict[str, Callable[[Result], Iterator[Part]]] = {
    "G1": _flat,
    "G2": _progress,
    "G3": _robust,
    "G4": _comparable,
    "G5": _alike,
}
