"""Which class of one model is which class of another: by index, and by text where a model brings its own strings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coreproof.errors import LineupError

_SYNSET = re.compile(r"^n\d{8}\s+")


@dataclass(frozen=True)
class ClassOrder:
    """Where a model's own classes stand in the common order; ``text`` says how that was found.

    ``unlike``: none of its labels is known by text; what it calls a class, and what that is called elsewhere.
    """

    positions: npt.NDArray[np.int64]
    text: str
    unlike: tuple[str, str] | None = None

    def arrange(self, probabilities: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float32]:
        """Rows in the model's own order -> rows in the common order; classes it does not have get 0."""
        arranged = np.zeros((len(probabilities), classes), np.float32)
        arranged[:, self.positions] = probabilities
        return arranged


def synonyms(label: str) -> frozenset[str]:
    """The names in a label, normalised: "n01440764 tench, Tinca_tinca" -> {"tench", "tinca tinca"}."""
    plain = unicodedata.normalize("NFKD", _SYNSET.sub("", label.strip().replace("_", " "))).lower()
    words = (re.sub(r"[^a-z0-9]+", " ", part).strip() for part in plain.split(","))
    return frozenset(word for word in words if word)


def match_classes(model: str, own: Sequence[str] | None, count: int, reference: Mapping[int, str]) -> ClassOrder:
    """Finds a model's order against the class names known by index.

    Without strings, or with strings of which none is known, order is by index. Strings that stand at their own index
    (or, at least two, all at one and the same distance: a background class first) confirm that order for the rest; in any
    other order every string must be found.

    Raises LineupError for strings in another order that cannot all be found, and for more or fewer strings than classes.
    """
    if own is not None and len(own) != count:
        raise LineupError(
            f"{model!r} has {count} classes and {len(own)} labels", fix="give one label a class, in its order"
        )
    identity = np.arange(count, dtype=np.int64)
    if own is None or not reference:
        return ClassOrder(identity, "by index")
    matches = _match_text(own, reference)
    if not matches:
        shared = next((index for index in range(count) if index in reference), None)
        unlike = None if shared is None else (own[shared], reference[shared])
        named = "" if unlike is None else f": class {shared} is {unlike[0]!r} to it, and {unlike[1]!r} elsewhere"
        return ClassOrder(identity, f"by index (none of its labels is known by text{named})", unlike)
    distances = Counter(index - position for position, index in matches.items())
    distance, agreeing = distances.most_common(1)[0]
    rest = count - len(matches)
    found = f"{len(matches)} of {count} labels found by text"
    if agreeing == len(matches) and distance == 0:
        return ClassOrder(identity, f"{found}, all at their own index" + (f"; {rest} by index" if rest else ""))
    if agreeing == len(matches) > 1:  # one alone may stand anywhere
        # classes before the first common one (a background class) come behind all others
        positions = np.where(identity + distance < 0, identity + distance + count, identity + distance)
        return ClassOrder(positions, f"{found}, all shifted by {distance}")
    if rest == 0 and len(set(matches.values())) == count:
        return ClassOrder(np.array([matches[i] for i in range(count)], dtype=np.int64), f"{found}, in another order")
    lost = [own[i] for i in range(count) if i not in matches]
    raise LineupError(
        f"the labels of {model!r} stand in another order, and {len(lost)} of them cannot be found by text",
        expected="labels that another model of the line-up, or labels.csv, names as well",
        found=", ".join(lost[:8]) + (" ..." if len(lost) > 8 else ""),
        fix=f"give {model} its labels in the common order: labels = FILE",
    )


def _match_text(own: Sequence[str], reference: Mapping[int, str]) -> dict[int, int]:
    """Own position -> reference index.

    Of several candidates: most names shared, then the own position, then the first that no other label has taken
    ("crane" is a bird and a machine; the one that stands where it belongs settles where the other may stand).
    """
    by_name: dict[str, list[int]] = {}
    for index, label in sorted(reference.items()):
        for name in synonyms(label):
            by_name.setdefault(name, []).append(index)
    best: list[list[int]] = []
    for label in own:
        votes = Counter(index for name in synonyms(label) for index in by_name.get(name, ()))
        best.append(sorted(index for index, n in votes.items() if n == max(votes.values())))
    matches = {position: position for position, indices in enumerate(best) if position in indices}
    taken = set(matches.values())
    # labels without a choice before those that choose among what is left
    for position in sorted(range(len(own)), key=lambda p: len(best[p])):
        free = [index for index in best[position] if index not in taken]
        if position not in matches and free:
            matches[position] = free[0]
            taken.add(free[0])
    return matches
