"""``coreproof diff``: what distinguishes two versions of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coreproof.cli.options import Replace, Trust, named
from coreproof.cli.progress import progress
from coreproof.cli.say import say_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from coreproof.difference.diff import Difference, LayerChange, LayerNote
    from coreproof.difference.edits import Edits
    from coreproof.difference.weight_change import WeightChange

_FEW = 12
_NONE = "none"


def command(
    before: Annotated[str, typer.Argument(help="The one version.", show_default=False)],
    after: Annotated[str, typer.Argument(help="The other version.", show_default=False)],
    everything: Annotated[bool, typer.Option("--all", help="List every layer and weight; group nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    edits: Annotated[
        Path | None, typer.Option(help="Write the edits that make the one the other: a script for `coreproof edit`.")
    ] = None,
    overwrite: Replace = False,
    trust: Trust = False,
) -> None:
    """Show what distinguishes two versions of a model; exit 0 when nothing does, 1 when something does.

    Layers added, removed, changed, renamed and rewired; weights, and in words what happened to them; features,
    preprocessing, labels, metadata. Layers are recognised by what they compute, so that a model whose layers were
    numbered anew is not a different model. Between formats: features, labels, and which weights are in both.
    """
    from coreproof.difference.diff import diff
    from coreproof.editing.script import write_script
    from coreproof.model.files.outputs import SCRIPT, check_output
    from coreproof.model.load import load

    if edits is not None:
        check_output(edits, SCRIPT, replace=overwrite, inputs=(before, after))
    with progress() as report:
        result = diff(load(before, trust=trust), load(after, trust=trust), report)
    found = None if edits is None else result.edits()
    document = result.to_json()
    if edits is not None and found is not None:
        lines = [
            f"makes {named(before)} what {named(after)} is; replay: coreproof edit {named(before)} {edits.name} OUT"
        ]
        lines += [f"no edit says it: {unsaid}" for unsaid in found.unsaid]
        if found.edits:
            write_script(found.edits, edits, "\n".join(lines), replace=overwrite)
        document |= {"edits": [str(step) for step in found.edits], "unsaid": list(found.unsaid)}
    if as_json:
        say_json(document)
    else:
        from coreproof.cli.terminal import console

        show(result, console(), everything=everything)
        if found is not None:
            _show_edits(found, edits, console())
    raise typer.Exit(0 if result.same else 1)


def show(difference: Difference, console: Console, *, everything: bool = False) -> None:
    """Prints a difference: the summary, then what is around the layers, the layers, the weights."""
    from coreproof.cli.terminal import lines as as_lines

    limit = None if everything else _FEW
    console.print(as_lines(summary(difference)), style="bold" if difference.same else None)
    if difference.around:
        console.print(_heading("around the layers"))
        for line in _some(list(_around(difference)), None if limit is None else 3 * limit, "more"):
            console.print(line, soft_wrap=True)
    layers = [*_layer_lines(difference, limit)]
    if layers:
        console.print(_heading("layers"))
        for line in layers:
            console.print(line, soft_wrap=True)
    lines = list(_weight_lines(difference, limit))
    if lines:
        console.print(_heading("weights"))
        for line in lines:
            console.print(line, soft_wrap=True)


def _show_edits(found: Edits, out: Path | None, console: Console) -> None:
    """How many edits were written, and what they leave."""
    from coreproof.cli.terminal import Line

    count = len(found.edits)
    told = f"{out}: {count} edit{'s' * (count > 1)} that make{'s' * (count == 1)} the one version the other"
    console.print(Line(f"\n{told if count else 'nothing to edit, so nothing was written'}"), soft_wrap=True)
    for line in (*(f"refused: {r}" for r in found.refused), *(f"no edit says it: {u}" for u in found.unsaid)):
        console.print(Line(f"  {line}", style="yellow"), soft_wrap=True)


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


def _heading(words: str) -> Text:
    from rich.text import Text

    return Text(f"\n{words}", style="bold")


def _around(difference: Difference) -> Iterator[Text]:
    from coreproof.cli.terminal import Line

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
    from coreproof.cli.terminal import Line

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
    from coreproof.cli.terminal import Line, lines

    for mark, style, notes in (("-", "red", difference.removed), ("+", "green", difference.added)):
        yield from _some([Line(f"  {mark} {_note(note)}", style=style) for note in notes], limit, "more")
    changed = [c for c in difference.changed if not c.only_renamed]
    groups: dict[tuple[str, ...], list[LayerChange]] = {}
    for change in changed:
        told = _change_lines(change)
        if told:
            groups.setdefault(tuple(line.markup for line in told), []).append(change)
    blocks = []
    for group in groups.values():
        apart = [[c] for c in group] if limit is None or len(group) <= 2 else [group]
        for members in apart:
            blocks.append(lines([_names(members), *_change_lines(members[0])]))
    yield from _some(blocks, limit, "more changes of layers")
    yield from _renames([c for c in difference.changed if c.renamed], limit)


def _note(note: LayerNote) -> str:
    parameters = f"  {note.parameters:,} parameters" if note.parameters else ""
    return f"{note.name}  {note.operator}  {', '.join(note.reads)} -> {', '.join(note.makes)}{parameters}"


def _names(changes: Sequence[LayerChange]) -> Text:
    from coreproof.cli.terminal import Line

    if len(changes) == 1:
        change = changes[0]
        was = f" (was {change.before})" if change.renamed else ""
        return Line.assemble("  ~ ", (change.after, "bold"), was, f"  {change.operators[1]}")
    shown = ", ".join(c.after for c in changes[:3])
    return Line.assemble("  ~ ", (f"{len(changes)} layers", "bold"), f": {shown}, ...")


def _change_lines(change: LayerChange) -> list[Text]:
    from coreproof.cli.terminal import Line

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
    from coreproof.cli.terminal import Line

    shown = lines if limit is None or len(lines) <= limit + 2 else lines[:limit]
    yield from shown
    if len(shown) < len(lines):
        yield Line(f"    and {len(lines) - len(shown)} {word} (--all shows them)", style="dim")


def _renames(changes: Sequence[LayerChange], limit: int | None) -> Iterator[Text]:
    """Renamed layers; those that all got the same ending or beginning in one line."""
    from coreproof.cli.terminal import Line

    rest = list(changes)
    if limit is not None:
        for words, group in _patterns(rest):
            first = group[0]
            yield Line.assemble(
                "  ~ ", (f"{len(group)} layers", "bold"), f" renamed: {words} ({first.before} -> {first.after}, ...)"
            )
            rest = [c for c in rest if c not in group]
    yield from _some(
        [Line("  ~ renamed  ") + _arrow(c.before, c.after) for c in rest if c.only_renamed], limit, "renamed"
    )


def _patterns(changes: Sequence[LayerChange]) -> list[tuple[str, list[LayerChange]]]:
    groups: dict[str, list[LayerChange]] = {}
    for change in changes:
        old, new = change.before, change.after
        words = next(
            (
                f"{verb} {ending!r} {place}"
                for longer, shorter, verb in ((new, old, "with"), (old, new, "without"))
                for place, ending in (
                    ("at the end", longer.removeprefix(shorter)),
                    ("in front", longer.removesuffix(shorter)),
                )
                if ending != longer
            ),
            "numbered anew" if _without_number(old) == _without_number(new) else None,
        )
        if words is not None:
            groups.setdefault(words, []).append(change)
    return [(words, group) for words, group in groups.items() if len(group) > 3]


def _without_number(name: str) -> str:
    return re.sub(r"_?\d+", "", name).lower()


# weights


def _weight_lines(difference: Difference, limit: int | None) -> Iterator[Any]:
    from coreproof.cli.terminal import Line

    rows = [(c.after, w) for c in difference.changed for w in c.weights]
    if limit is not None:
        for words, group in _alike(rows):
            yield Line.assemble(
                "  ", (f"{len(group)} weights", "bold"), f" of {_layers_of(group)}: {words}{_range(group)}"
            )
            rows = [row for row in rows if row not in group]
    rows = sorted(rows, key=lambda row: -_weight(row[1]))
    for layer, weight in rows if limit is None else rows[: limit + 2]:
        yield _weight_line(layer, weight)
    if limit is not None and len(rows) > limit + 2:
        yield Line(f"    and {len(rows) - limit - 2} more (--all shows them)", style="dim")
    yield from _found_lines(difference, limit)


def _weight(change: WeightChange) -> float:
    """The order in which weights are listed: other shapes first, then the largest changes."""
    return float("inf") if change.relative_rms is None else change.relative_rms


def _kind(words: str) -> str:
    """What was recognised, without its figures."""
    return re.sub(r" \([^)]*values[^)]*\)|(?<=scaled by ).*|(?<=shifted by ).*", "", words).strip()


def _alike(rows: Sequence[tuple[str, WeightChange]]) -> list[tuple[str, list[tuple[str, WeightChange]]]]:
    groups: dict[str, list[tuple[str, WeightChange]]] = {}
    for row in rows:
        groups.setdefault(_kind(row[1].words), []).append(row)
    return [(words, group) for words, group in groups.items() if len(group) > 3]


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
    from coreproof.cli.terminal import Line

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
    from coreproof.cli.terminal import Line

    old, new = ("x".join(map(str, end[1])) or _NONE for end in (weight.before, weight.after))
    return Line(old, style="dim") if old == new else _arrow(old, new)


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return "inf" if share == float("inf") else f"{100 * share:.3g}%"


def _found_lines(difference: Difference, limit: int | None) -> Iterator[Text]:
    """Between formats: which weights are in both, and which in one only."""
    from coreproof.cli.terminal import Line

    groups: dict[str, list[Any]] = {}
    for found in difference.found:
        groups.setdefault(_kind(found.words), []).append(found)
    for words, group in groups.items():
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
