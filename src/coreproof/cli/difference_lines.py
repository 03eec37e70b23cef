"""A difference of two versions of a model, in lines for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.text import Text

from coreproof.cli.terminal import Line, lines, print_whole

if TYPE_CHECKING:
    from coreproof.difference.diff import Difference, LayerChange, LayerNote
    from coreproof.difference.edits import Edits
    from coreproof.difference.weight_change import WeightChange

_T = TypeVar("_T")
_FEW = 12
_ALIKE = 4
"""So many that changed in one way are told in one line."""
_NONE = "none"


def show(difference: Difference, console: Console, *, everything: bool = False) -> None:
    """Prints a difference: the summary, then what is around the layers, the layers, the weights."""
    limit = None if everything else _FEW
    console.print(lines(summary(difference)), style="bold" if difference.same else None)
    around = _some(list(_surrounding_lines(difference)), None if limit is None else 3 * limit, "more")
    sections = {
        "around the layers": around,
        "layers": _layer_lines(difference, limit),
        "weights": _weight_lines(difference, limit),
    }
    for heading, found in sections.items():
        if listed := list(found):
            console.print(Text(f"\n{heading}", style="bold"))
            print_whole(console, listed)


def edits_lines(found: Edits, out: Path | None) -> list[Text]:
    """How many edits were written, and what they leave."""
    count = len(found.edits)
    told = f"{out}: {count} edit{'s' * (count > 1)} that make{'s' * (count == 1)} the one version the other"
    rest = (*(f"refused: {r}" for r in found.refused), *(f"no edit says it: {u}" for u in found.unsaid))
    head = Line(f"\n{told if count else 'nothing to edit, so nothing was written'}")
    return [head, *(Line(f"  {line}", style="yellow") for line in rest)]


def _grouped(things: Iterable[_T], key: Callable[[_T], str | None], least: int = 1) -> Mapping[str, list[_T]]:
    """The things by key, those without one left out, and groups of fewer than ``least``."""
    groups: dict[str, list[_T]] = {}
    for thing in things:
        if (found := key(thing)) is not None:
            groups.setdefault(found, []).append(thing)
    return {found: group for found, group in groups.items() if len(group) >= least}


def summary(difference: Difference) -> list[str]:
    """What was compared, and how much of it differs."""
    formats = difference.formats[0] if difference.same_format else " and ".join(difference.formats)
    head = f"{difference.before} -> {difference.after}  ({formats})"
    if difference.same:
        return [head, "the same: layers, weights, features, labels and metadata"]
    if not difference.same_format:
        total = len(difference.found) + len(difference.lost)
        return [
            head,
            f"{len(difference.found)} of {total} weights are in both; layers of different formats are not compared one "
            "by one: `coreproof verify` compares what they compute",
        ]
    changed = [c for c in difference.changed if not c.only_renamed]
    counts = [
        (len(difference.removed), "removed"),
        (len(difference.added), "added"),
        (len(changed), "changed"),
        (len(difference.changed) - len(changed), "renamed"),
    ]
    told = ", ".join(f"{count} {word}" for count, word in counts if count)
    return [head, f"layers: {told or 'all the same'}" + (f"; {difference.unchanged} the same" if told else "")]


def _surrounding_lines(difference: Difference) -> Iterator[Text]:
    # a section is named once, before the first of its lines
    last = ""
    for change in difference.around:
        section = change.section if change.section != last else ""
        words = f"  ({change.words})" if change.words else ""
        yield Line.assemble(
            (f"  {section:14}", "dim"), f"{change.what}  ", _arrow(change.before, change.after), (words, "dim")
        )
        last = change.section


def _arrow(before: object, after: object) -> Text:
    """before -> after, the one in red, the other in green."""
    return Line.assemble((_brief(before), "red"), " -> ", (_brief(after), "green"))


def _brief(value: object) -> str:
    if value is None:
        return _NONE
    if isinstance(value, tuple | list):
        shown = ",".join(_brief(v) for v in value[:8])
        return f"[{shown}]" if len(value) <= 8 else f"[{shown},... {len(value)} values]"
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())


# layers


def _layer_lines(difference: Difference, limit: int | None) -> Iterator[Text]:
    for mark, style, notes in (("-", "red", difference.removed), ("+", "green", difference.added)):
        yield from _some([Line(f"  {mark} {_note(note)}", style=style) for note in notes], limit, "more")
    changed = [c for c in difference.changed if not c.only_renamed]
    # layers that changed in the same way are told once
    alike = _grouped(changed, lambda change: "\n".join(line.markup for line in _change_lines(change)) or None)
    blocks = []
    for group in alike.values():
        apart = [[c] for c in group] if limit is None or len(group) <= 2 else [group]
        blocks += [lines([_names(members), *_change_lines(members[0])]) for members in apart]
    yield from _some(blocks, limit, "more changes of layers")
    yield from _renames([c for c in difference.changed if c.renamed], limit)


def _note(note: LayerNote) -> str:
    parameters = f"  {note.parameters:,} parameters" if note.parameters else ""
    return f"{note.name}  {note.operator}  {', '.join(note.reads)} -> {', '.join(note.makes)}{parameters}"


def _names(changes: Sequence[LayerChange]) -> Text:
    if len(changes) == 1:
        change = changes[0]
        was = f" (was {change.before})" if change.renamed else ""
        return Line.assemble("  ~ ", (change.after, "bold"), was, f"  {change.operators[1]}")
    shown = ", ".join(c.after for c in changes[:3])
    return Line.assemble("  ~ ", (f"{len(changes)} layers", "bold"), f": {shown}, ...")


def _change_lines(change: LayerChange) -> list[Text]:
    lines = []
    if change.replaced:
        lines.append(Line("      operation  ") + _arrow(*change.operators))
        for word, side, style in (("without", "before", "red"), ("with", "after", "green")):
            listed = [f"{s.name} {_brief(v)}" for s in change.settings if (v := getattr(s, side)) is not None]
            if listed:
                lines.append(Line.assemble(f"      {word}  ", (", ".join(listed), style)))
    for setting in (*(() if change.replaced else change.settings), *change.makes):
        lines.append(Line(f"      {setting.name}  ") + _arrow(setting.before, setting.after))
    for before, after in change.rewired:
        lines.append(Line("      reads  ") + _arrow(before, after))
    return lines


def _some(lines: Sequence[Text], limit: int | None, word: str) -> Iterator[Text]:
    # a line that counts one or two more would save next to nothing
    shown = lines if limit is None or len(lines) <= limit + 2 else lines[:limit]
    yield from shown
    if len(shown) < len(lines):
        yield Line(f"    and {len(lines) - len(shown)} {word} (--all shows them)", style="dim")


def _renames(changes: Sequence[LayerChange], limit: int | None) -> Iterator[Text]:
    """Renamed layers; those that all got the same ending or beginning in one line."""
    rest = list(changes)
    if limit is not None:
        for words, group in _grouped(rest, _pattern, _ALIKE).items():
            first = group[0]
            yield Line.assemble(
                "  ~ ", (f"{len(group)} layers", "bold"), f" renamed: {words} ({first.before} -> {first.after}, ...)"
            )
            rest = [c for c in rest if c not in group]
    yield from _some(
        [Line("  ~ renamed  ") + _arrow(c.before, c.after) for c in rest if c.only_renamed], limit, "renamed"
    )


def _pattern(change: LayerChange) -> str | None:
    """How a layer was renamed, where others may have been in the same way."""
    old, new = change.before, change.after
    for longer, shorter, verb in ((new, old, "with"), (old, new, "without")):
        if longer.startswith(shorter):
            return f"{verb} {longer.removeprefix(shorter)!r} at the end"
        if longer.endswith(shorter):
            return f"{verb} {longer.removesuffix(shorter)!r} in front"
    return "numbered anew" if _without_number(old) == _without_number(new) else None


def _without_number(name: str) -> str:
    return re.sub(r"_?\d+", "", name).lower()


# weights


def _weight_lines(difference: Difference, limit: int | None) -> Iterator[Text]:
    rows = [(c.after, w) for c in difference.changed for w in c.weights]
    if limit is not None:
        for words, group in _grouped(rows, lambda row: _kind(row[1].words), _ALIKE).items():
            yield Line.assemble(
                "  ", (f"{len(group)} weights", "bold"), f" of {_layers_of(group)}: {words}{_range(group)}"
            )
            rows = [row for row in rows if row not in group]
    # other shapes first, then the largest changes
    rows.sort(key=lambda row: -(math.inf if row[1].relative_rms is None else row[1].relative_rms))
    yield from _some([_weight_line(layer, weight) for layer, weight in rows], limit, "more")
    yield from _found_lines(difference, limit)


def _kind(words: str) -> str:
    """What was recognised, without its figures."""
    return re.sub(r" \([^)]*values[^)]*\)|(?<=scaled by ).*|(?<=shifted by ).*", "", words).strip()


def _layers_of(group: Iterable[tuple[str, WeightChange]]) -> str:
    count = len({layer for layer, _ in group})
    return "1 layer" if count == 1 else f"{count} layers"


def _range(group: Sequence[tuple[str, WeightChange]]) -> str:
    largest = max((w.max_abs for _, w in group if w.max_abs is not None), default=0.0)
    worst = max(group, key=lambda row: row[1].relative_rms or 0.0)
    if not largest:
        return ""
    return f"; by at most {largest:.3g}, rms up to {_percent(worst[1].relative_rms)} ({worst[0]} {worst[1].parameter})"


def _weight_line(layer: str, weight: WeightChange) -> Text:
    """layer  parameter  shape  what happened; how far."""
    figures = [
        f"rms {_percent(weight.relative_rms)}" if weight.relative_rms is not None else "",
        f"largest {weight.max_abs:.3g}" if weight.max_abs is not None else "",
        f"{_percent(weight.share)} of the elements" if weight.share else "",
    ]
    told = ", ".join(f for f in figures if f) if weight.max_abs else ""
    return Line.assemble(
        f"  {layer}  {weight.parameter}  ",
        _shapes(weight),
        "  ",
        (weight.words, "yellow"),
        (f"; {told}" if told else "", "dim"),
    )


def _shapes(weight: WeightChange) -> Text:
    old, new = ("x".join(map(str, end[1])) or _NONE for end in (weight.before, weight.after))
    return Line(old, style="dim") if old == new else _arrow(old, new)


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return "inf" if math.isinf(share) else f"{100 * share:.3g}%"


def _found_lines(difference: Difference, limit: int | None) -> Iterator[Text]:
    """Between formats: which weights are in both, and which in one only."""
    for words, group in _grouped(difference.found, lambda found: _kind(found.words)).items():
        first = group[0]
        yield Line.assemble(
            "  ", (f"{len(group)} in both", "bold"), f": {words} ({first.before} -> {first.after}, ...)"
        )
    for name, names, style in (
        (difference.before, difference.lost, "red"),
        (difference.after, difference.gained, "green"),
    ):
        if names:
            shown = names if limit is None else names[:limit]
            more = f", and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
            yield Line(f"  {len(names)} in {name} only: {', '.join(shown)}{more}", style=style)
