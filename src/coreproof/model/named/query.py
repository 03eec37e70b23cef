"""What stands behind the question mark of a name: options, each said once, of which unknown ones are refused."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from coreproof.errors import InputError


def read_query(query: str, known: Sequence[str], where: str) -> dict[str, str]:
    """``weights=random&seed=3`` as a mapping. Raises InputError for unknown options, and such as are empty or said twice."""
    given = parse_qsl(query, keep_blank_values=True)
    unknown = sorted({key for key, _ in given} - set(known))
    if unknown:
        raise InputError(f"unknown option(s) {unknown}", where=where, expected=", ".join(known))
    wrong = [key for key, value in given if not value] or [k for k in known if [o for o, _ in given].count(k) > 1]
    if wrong:
        found = "&".join(f"{k}={v}" for k, v in given)
        raise InputError(f"{wrong[0]} is said once, with a value", where=where, found=found)
    return dict(given)


def whole_number(options: dict[str, str], option: str, default: int, least: int, where: str) -> int:
    """The number that an option says, from ``least`` to 999999; InputError for anything else."""
    text = options.get(option, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 7 and int(text) >= least):
        raise InputError(f"{option} is a whole number", where=where, expected=f"{least} to 999999", found=text[:40])
    return int(text)


def weights_said(options: dict[str, str], where: str) -> str | None:
    """What ``weights`` says, "random" where only a seed is said, None where nothing is. InputError where both differ."""
    said = options.get("weights") or ("random" if "seed" in options else None)
    if "seed" in options and said != "random":
        raise InputError(
            "seed is of random weights",
            where=where,
            found=f"weights={said}",
            fix="leave seed out, or say weights=random",
        )
    return said


def wants_random_weights(options: dict[str, str], where: str) -> bool:
    """Whether a network of a repository is asked for with random weights; InputError for others than its own."""
    chosen = weights_said(options, where)
    if chosen not in (None, "random"):
        raise InputError("a repository has its own weights", where=where, expected="random", found=f"weights={chosen}")
    return chosen == "random"


def random_weights_note(seed: int) -> str:
    """What a model with random weights says of itself."""
    return f"seeded random weights (seed {seed}): agreement is meaningful, accuracy is not"


def require_classes(asked: int | None, published: int, where: str, name: str) -> None:
    """Raises InputError where another number of classes is asked for than the published weights tell apart."""
    if asked not in (None, published):
        raise InputError(
            "the published weights have other classes",
            where=where,
            expected=f"{published} classes",
            found=f"num_classes={asked}",
            fix=f"weights of yours: {name}?weights=FILE&num_classes={asked}; or weights=random",
        )
