"""What the page shows, as plain values: a comparison and a proof's steps, cut to what one file can carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, islice, zip_longest
from types import MappingProxyType

import numpy as np

from coreproof.comparison.comparison import Comparison, ModelPair
from coreproof.comparison.lineup import explaining
from coreproof.model.weakness import failing, qualified
from coreproof.report.curve import Document, curve

"""What JSON holds: of a proof, a comparison, a step, a row."""

_DIFFERING = 60
_EXTREMES = 12
_CERTAIN = 6
_PHOTOS = 1000
_ROWS = 4000
_PAIRS = 1000
# What grows with the models has a room of its own, so that a page of a hundred stays one that a browser opens at once.
_ANSWERS = 12_000
_ALL_DIFFERING = 20_000
_CLASSES = 40_000
_ALL_EXTREMES = 4_000


def comparison_data(comparison: Comparison) -> Document:
    """The part of a comparison that the page's script works on. Photos are numbers into ``photos``; ``src`` is still to come."""
    most_differing = max(6, min(_DIFFERING, _ALL_DIFFERING // max(1, len(comparison.pairs))))
    most_extremes = max(3, min(_EXTREMES, _ALL_EXTREMES // max(1, len(comparison.pairs))))
    chosen = _chosen_photos(comparison, most_differing, most_extremes)
    number = {photo: k for k, photo in enumerate(chosen)}

    def numbered(pairs: Sequence[tuple[str, float]]) -> list[list[float]]:
        return [[number[photo], round(value, 5)] for photo, value in pairs if photo in number]

    pairs = []
    for (a, b), pair in comparison.pairs.items():
        differing = comparison.disagreements(a, b, most_differing)
        pairs.append(
            {
                "a": comparison.index(a),
                "b": comparison.index(b),
                "count": pair.count,
                "share": pair.share,
                "low": round(pair.low, 6),
                "high": round(pair.high, 6),
                "kappa": None if math.isnan(pair.kappa) else round(pair.kappa, 6),
                "overlap": round(pair.top5_overlap, 6),
                # significant digits, not decimals: divergences span many magnitudes
                "divergence": float(f"{pair.divergence:.6g}"),
                "differ": [number[photo] for photo in differing if photo in number],
                "most": numbered(comparison.most_divergent(a, b, most_extremes)),
                "least": numbered(comparison.least_divergent(a, b, most_extremes)),
            }
        )
    used = {c for name in comparison.names for photo in chosen for c, _ in comparison.predictions(name, photo)}
    classes = _classes(comparison)
    used |= {row[0] for row in classes}
    truths = {photo: comparison.truth_of(photo) for photo in chosen}
    used |= {truth for truth in truths.values() if truth is not None}
    return {
        "models": list(comparison.names),
        "called": [model.called for model in comparison.models],
        "main": [comparison.index(name) for name in comparison.tally.main],
        "perclass": classes,
        "total": comparison.count,
        "pictures": comparison.pictures,
        "everything": comparison.writes_every_photo,
        "photos": [{"name": photo, "src": "", "truth": truths[photo]} for photo in chosen],
        "classes": {str(c): comparison.class_name(c) for c in sorted(used)},
        "top": [
            [[[c, round(p, 5)] for c, p in comparison.predictions(name, photo)] for photo in chosen]
            for name in comparison.names
        ],
        "pairs": pairs,
        "certain": {
            name: {
                "most": numbered(comparison.most_certain(name, _CERTAIN)),
                "least": numbered(comparison.least_certain(name, _CERTAIN)),
            }
            for name in comparison.names
        },
    }


def _chosen_photos(comparison: Comparison, most_differing: int, most_extremes: int) -> list[str]:
    """The photos that the page shows: the first of every list, then the second of every list, as far as there is room."""
    lists: list[list[str]] = []
    for a, b in comparison.pairs:
        lists.append(comparison.disagreements(a, b, most_differing))
        lists.append([photo for photo, _ in comparison.most_divergent(a, b, most_extremes)])
        lists.append([photo for photo, _ in comparison.least_divergent(a, b, most_extremes)])
    for name in comparison.names:
        lists.append([photo for photo, _ in comparison.most_certain(name, _CERTAIN)])
        lists.append([photo for photo, _ in comparison.least_certain(name, _CERTAIN)])
    # rank by rank, so that no list takes all the room
    in_turn = (photo for rank in zip_longest(*lists) for photo in rank if photo is not None)
    most = min(_PHOTOS, _ANSWERS // len(comparison.names))
    # where all have room, all can be looked through; of more it would be a part that tells nothing
    rest = comparison.photos if comparison.count <= most else ()
    return list(islice(dict.fromkeys(chain(in_turn, rest)), most))


def _classes(comparison: Comparison) -> list[tuple[int, int, list[int], list[int]]]:
    """Each class that is shown or named: its photos, how often each model names it, and how often it is right about it.

    Those first that the models name most unequally often.
    """
    models = [comparison.tally.models[name] for name in comparison.names]
    named = np.stack([model.named for model in models])
    right = np.stack([model.right_of for model in models])
    known = comparison.tally.known_of
    spread = named.max(axis=0) - named.min(axis=0)
    order = np.lexsort((-named.max(axis=0), -spread))
    there = [int(k) for k in order if known[k] or named[:, k].any()][: _CLASSES // len(models)]
    return [(k, int(known[k]), named[:, k].tolist(), right[:, k].tolist()) for k in there]


def table_pairs(comparison: Comparison) -> list[ModelPair]:
    """The pairs of which the page has a row: in their order, all or those that agree least."""
    least = sorted(comparison.pairs.values(), key=lambda pair: (pair.count, -pair.divergence))[:_PAIRS]
    kept = {(pair.a, pair.b) for pair in least}
    return [pair for names, pair in comparison.pairs.items() if names in kept]


def comparison_verdict(comparison: Comparison) -> Document:
    """On how many photos all models name the same class, and which two are furthest apart.

    Models that stand in the line-up only to explain a difference are left out: they differ on purpose.
    """
    helpers = explaining(comparison.attributions)
    names = [name for name in comparison.names if name not in helpers]
    together = comparison.tally.together
    photos, models = comparison.count, len(names)
    if models == 1:
        text = qualified(f"One model over {_photos(photos)}", comparison.weaknesses)
        return {"state": "neutral", "text": f"{text}.", "worst": None}
    pairs = [pair for pair in comparison.pairs.values() if pair.a in names and pair.b in names]
    # of pairs that agree on equally few photos the one of which the line-up says why
    explained = {frozenset((found.a, found.b)) for found in comparison.explanations}
    worst = min(pairs, key=lambda pair: (pair.count, frozenset((pair.a, pair.b)) not in explained, -pair.divergence))
    who = "Both models name" if models == 2 else f"All {models} models name"
    weaknesses = comparison.weaknesses
    if together == photos:
        text = qualified(f"{who} the same class on every one of {_photos(photos)}", weaknesses)
        return {"state": "weak" if failing(weaknesses) else "good", "text": f"{text}.", "worst": worst}
    text = qualified(f"{who} the same class on {together:,} of {_photos(photos)}", weaknesses) + "."
    for found in comparison.explanations:
        best = min(found.causes, key=lambda cause: cause.differ, default=None)
        if best is not None and found.differ:
            left = f"{best.differ:,}" if best.differ else "none"
            both = f"{comparison.spoken(found.a)} and {comparison.spoken(found.b)}"
            text += f" {both} differ on {found.differ:,}; made alike in {best.cause}, on {left}."
    if models > 2 and not comparison.explanations:
        both = f"{comparison.spoken(worst.a)} and {comparison.spoken(worst.b)}"
        text += f" {both} are furthest apart: they differ on {worst.photos - worst.count:,}."
    return {"state": "mixed", "text": text, "worst": worst}


def _photos(count: int) -> str:
    return f"{count:,} photo{'' if count == 1 else 's'}"


def step_data(step: Document, files: Mapping[str, str] = MappingProxyType({})) -> Document:
    """A step of a proof, with its rows in the page's columns and their summary; ``files``: where its models lie, by name."""
    rows = [_row(row) for row in step.get("rows", ())]
    failing = [row for row in rows if not row["agrees"]]
    # rows without a tolerance have used none of it
    worst = max(rows, key=lambda row: row["used"] if row["used"] is not None else -1.0, default=None)
    kept = rows if len(rows) <= _ROWS else [*failing[:_ROWS], *rows[: _ROWS - len(failing[:_ROWS])]]
    first = step.get("first_divergence")
    if isinstance(first, Mapping):
        first = _row(first)
    elif first is not None:
        first = {"name": str(first), "operator": "", "source": "", "problem": ""}
    ok = step.get("ok")
    weaknesses = step.get("weaknesses", ())
    return {
        "name": step.get("name", ""),
        "kind": step.get("kind", ""),
        "from": step.get("from") or "",
        "to": step.get("to") or "",
        "file": files.get(step.get("to") or "", ""),
        "from_file": files.get(step.get("from") or "", ""),
        "state": "bad"
        if ok is False
        else "weak"
        if any(w["fails"] for w in weaknesses)
        else "good"
        if ok
        else "neutral",
        "weaknesses": [w["text"] for w in weaknesses],
        "text": step.get("text", ""),
        "seconds": step.get("seconds"),
        "engines": list(dict.fromkeys(e for e in step.get("engines", ()) if e)),
        "notes": [note for note in step.get("notes", ()) if note],
        "inputs": step.get("inputs", ""),
        "taken_for": step.get("taken_for") or {},
        "unpaired": step.get("unpaired", 0),
        "compared": len(rows),
        "agreeing": len(rows) - len(failing),
        "worst": worst,
        "first": first,
        "rows": kept,
        # along the network there is an order only where no row was left out
        "curve": curve(rows) if len(rows) == len(kept) else None,
        "cut": len(rows) - len(kept),
    }


def _row(row: Document) -> Document:
    tolerance = row.get("tolerance")
    relative, text, why = None, tolerance, ""
    if isinstance(tolerance, Mapping):
        relative, why = tolerance.get("relative"), tolerance.get("why", "")
        absolute = tolerance.get("absolute") or 0.0
        text = "equal" if not relative and not absolute else f"{_number(relative)} of scale"
    elif isinstance(tolerance, int | float):
        relative, text = float(tolerance), _number(tolerance)
    needed = row.get("required", row.get("required_relative"))
    # the share of what was allowed that was needed; above 1 it disagrees
    used = needed / relative if isinstance(needed, int | float) and relative else None
    shape = row.get("shape") or ()
    return {
        "name": row.get("name") or row.get("candidate") or "",
        "reference": row.get("reference", ""),
        "operator": row.get("operator", ""),
        "source": row.get("source") or "",
        "shape": shape if isinstance(shape, str) else "x".join(str(d) for d in shape),
        "dtype": row.get("dtype", ""),
        "max": row.get("max_error"),
        "mean": row.get("mean_error"),
        "relative": row.get("relative_error", row.get("max_relative_error")),
        "cosine": row.get("cosine"),
        "psnr": row.get("psnr"),
        "tolerance": text or "",
        "why": why,
        "required": needed,
        "used": used if used is not None and math.isfinite(used) else None,
        "agrees": bool(row.get("agrees")),
        "problem": row.get("problem", ""),
    }


def _number(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, int | float) else str(value)
