"""What an input was taken for, in words."""

from __future__ import annotations

import math

import numpy as np

from coreproof.feeding.draw import MASKED, whole_ends, within
from coreproof.feeding.roles.role import Role
from coreproof.model.features import Feature


def in_words(feature: Feature, role: Role) -> str:
    """``indices of 40,000 rows of `embed.weight```, ``a mask, 0 or 1``, ``numbers above 0 (logarithm)``."""
    if feature.image is not None:
        return f"a picture, {feature.image.colour} {feature.image.width}x{feature.image.height}"
    if role.kind == "category":
        few = ", ".join(map(str, role.choices[:3]))
        said = f"{len(role.choices):,} categories ({few}{', ...' if len(role.choices) > 3 else ''})"
        return said if feature.kind not in ("dictionary", "sequence") else f"a {feature.kind} of {said}"
    if feature.kind in ("dictionary", "sequence"):
        return f"a {feature.kind}"
    whole = (feature.dtype or "").startswith(("int", "uint")) or feature.kind == "int64"
    if role.kind == "index":
        low, high = math.ceil(role.low), role.high
        offset = f", {low} to {math.floor(high):,}" if low != 0 and high < math.inf else ""
        return f"{role.why}{offset}"
    if role.kind == "length":
        if role.exact is not None:
            return f"{role.why}: {list(role.exact)}"
        return f"{role.why}{_interval(role)}"
    if feature.dtype == "bool":
        return "truth values" + (", a mask" if role.kind == "mask" else "")
    if role.kind == "mask":
        return f"{role.why if 'mask' in role.why else 'a mask'}: 0 or 1"
    if role.kind == "additive":
        return f"a mask, {role.why}: 0 or {' or '.join(f'{n:,.0f}' for n in MASKED)}"
    why = f" ({role.why})" if role.why and (role.bounded or role.nonzero or role.rising) else ""
    rising = "rising " if role.rising else ""
    if whole:
        least, most = whole_ends(within(role, np.dtype(feature.dtype or feature.kind)))
        ends = f" {least:,} to {most:,}"
        return f"{rising}whole numbers{ends}{', not 0' if role.nonzero else ''}{why}"
    return f"{rising}numbers{_interval(role)}{', not 0' if role.nonzero else ''}{why}"


def _interval(role: Role) -> str:
    low, high = role.low, role.high
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" above {low:g}" if role.above else f" from {low:g}"
    if math.isinf(low):
        return f" below {high:g}" if role.below else f" up to {high:g}"
    return f" between {low:g} and {high:g}" if role.above and role.below else f" {low:g} to {high:g}"
