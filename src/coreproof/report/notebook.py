"""How results show themselves in a notebook: layer tables, error along the network, heat-mapped matrix, photos, findings."""

from __future__ import annotations

import html as html_module
import math
import re
from collections.abc import Iterable, Sequence
from functools import singledispatch

from coreproof.comparison.comparison import Comparison, Photographs
from coreproof.doctor.diagnose import Diagnosis
from coreproof.doctor.finding import Finding
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.report.thumbnails import thumbnails
from coreproof.verification.row import Row
from coreproof.verification.verification import Verification
from coreproof.visible import visible

_ROWS = 400
"""Layers that a table shows; longer models say how many are left out."""
_TELLING = 6
"""Photos that a comparison shows of the two models that differ most."""

# The notebook's own colours are inherited or mixed in, so that light and dark themes both read well.
_STYLE = """<style>
.cp{font-family:system-ui,sans-serif;font-size:13px;line-height:1.45}
.cp table{border-collapse:collapse;margin:.4em 0}
.cp th,.cp td{padding:.15em .6em;text-align:left;border:0;border-bottom:1px solid rgba(128,128,128,.25);vertical-align:top}
.cp td.n,.cp th.n{text-align:right;font-variant-numeric:tabular-nums}
.cp .scroll{max-height:24em;overflow:auto;display:inline-block;max-width:100%}
.cp code{font-size:12px;background:none}
.cp .good{color:color-mix(in srgb,#1e8e3e 62%,currentColor)}
.cp .bad{color:color-mix(in srgb,#d93025 62%,currentColor);font-weight:600}
.cp .weak{color:color-mix(in srgb,#b06000 62%,currentColor);font-weight:600}.cp .dim{opacity:.7}
.cp figure{display:inline-block;margin:0 .8em .8em 0;vertical-align:top;width:176px}
.cp figcaption{overflow-wrap:anywhere}
.cp .scroll:has(.heat){max-height:none}
.cp .heat{display:block;padding:.05em .5em;border-radius:3px}
.cp figure img{width:176px;height:132px;object-fit:cover;border-radius:6px}
.cp .card{border-left:3px solid #d93025;padding:.2em .8em;margin:.6em 0}.cp .card.repaired{border-color:#1e8e3e}
</style>"""


def escape(text: object, quote: bool = True) -> str:
    """Text as HTML shows it; names can neither turn nor hide anything."""
    return html_module.escape(visible(text, keep="\n"), quote)


def html(result: object) -> str:
    """A result as a piece of HTML that carries its own style and loads nothing."""
    return f'{_STYLE}<div class="cp">{_html(result)}</div>'


@singledispatch
def _html(result: object) -> str:
    return f"<pre>{escape(repr(result))}</pre>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; ``numbers`` are columns that stand flush right. Cells are HTML already."""

    def cells(tag: str, row: Sequence[str]) -> str:
        tags = [tag if cell else "td" for cell in row]  # a heading that says nothing is none
        return "".join(
            f"<{tag}{' class=n' if i in numbers else ''}>{cell}</{tag}>"
            for i, (tag, cell) in enumerate(zip(tags, row, strict=True))
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    label = escape(", ".join(re.sub("<.*?>", "", cell) for cell in head if cell), quote=True)
    table = f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{label}">{table}</div>'


# models


@_html.register
def _(model: Model) -> str:
    signature = model.signature
    features = [
        *(("input", escape(str(f))) for f in signature.inputs),
        *(("output", escape(str(f))) for f in signature.outputs),
    ]
    if signature.labels:
        shown = ", ".join(map(str, signature.labels[:4]))
        features.append(
            ("labels", f"{len(signature.labels)}: {escape(shown)}{', …' if len(signature.labels) > 4 else ''}")
        )
    features += [("note", escape(note)) for note in model.notes]
    lines = "<br>".join(f'<span class="dim">{kind}</span> {text}' for kind, text in features)
    return f"<b>{escape(model.name)}</b> <span class='dim'>{model.format}</span><br>{lines}{_html(model.graph)}"


@_html.register
def _(graph: Graph) -> str:
    rows = [_layer(node, graph) for node in graph.nodes[:_ROWS]]
    left = len(graph.nodes) - len(rows)
    note = f'<div class="dim">{left} more layers</div>' if left > 0 else ""
    head = ("layer", "operator", "reads → makes", "shape", "parameters", "attributes")
    return f"<details open><summary>{len(graph.nodes)} layers</summary>{_table(head, rows, (4,))}{note}</details>"


def _layer(node: Node, graph: Graph) -> tuple[str, ...]:
    read = [n for n in node.inputs if n and not ((v := graph.values.get(n)) is not None and v.constant)]
    shapes = []
    for name in node.outputs:
        value = graph.values.get(name)
        shape = None if value is None else value.shape
        shapes.append("?" if shape is None else "x".join("?" if d is None else str(d) for d in shape) or "scalar")
    count = sum(math.prod(shape) for dtype, shape in node.parameters.values() if dtype != "str" and shape)
    settings = " ".join(f"{k}={_brief(v)}" for k, v in node.attributes.items())
    flow = f"{', '.join(read)} → {', '.join(node.outputs)}"
    return (
        f"<code>{escape(node.name)}</code>",
        escape(node.operator),
        f"<code>{escape(flow)}</code>",
        ", ".join(shapes),
        f"{count:,}" if count else "",
        f'<span class="dim">{escape(settings)}</span>',
    )


def _brief(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 40 else text[:37] + "…"


# verification


@_html.register
def _(verification: Verification) -> str:
    verdict, *rest = verification.summary().splitlines()
    mood = "bad" if not verification.agrees else "good" if verification.proves else "weak"
    lines = "<br>".join(escape(line) for line in rest)
    return (
        f'<b class="{mood}">{escape(verdict)}</b><br><span class="dim">{lines}</span>'
        f"{_chart(verification)}{_values(verification)}"
    )


def _chart(verification: Verification) -> str:
    """Error of each value along the network as a share of its scale, on a logarithmic scale, with what is allowed."""
    rows = verification.rows
    if not rows:
        return ""
    width, height, floor, decades = 720, 120, 1e-9, 10

    def y(error: float) -> float:
        if not math.isfinite(error):
            return 4
        # four pixels of margin, so that dots at the ends are whole
        return 4 + (height - 8) * (1 - min(max(math.log10(max(error, floor) / floor) / decades, 0), 1))

    def x(i: int) -> float:
        return 8 + (width - 16) * (i + 0.5) / len(rows)

    allowed = " ".join(f"{x(i):.1f},{y(row.tolerance.typical or 0):.1f}" for i, row in enumerate(rows))
    dots = "".join(
        f'<circle cx="{x(i):.1f}" cy="{y(row.judgement.rms_relative_error):.1f}" r="2.6" '
        f'fill="{"#1e8e3e" if row.agrees else "#d93025"}"><title>{escape(row.candidate)} ({escape(row.operator)}): '
        f"{row.judgement.rms_relative_error:.2g}</title></circle>"
        for i, row in enumerate(rows)
    )
    label = escape(f"error along the network, {len(rows)} values, from 1e-9 to 10 of each value's scale")
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" style="width:100%;max-width:{width}px">'
        f'<polyline points="{allowed}" fill="none" stroke="currentColor" stroke-opacity=".4" stroke-dasharray="3 3"/>'
        f"{dots}</svg>"
        '<div class="dim">error along the network (dots) and what rounding explains (dashed), logarithmic</div>'
    )


def _values(verification: Verification) -> str:
    rows = verification.rows
    first = verification.first_divergence
    start = 0 if first is None else max(0, rows.index(first) - 6)
    shown = rows[start : start + 60]
    head = ("", "value", "operator", "module", "error", "allowed")
    body = [_value(row, row is first) for row in shown]
    return f"<details><summary>values</summary>{_table(head, body, (4, 5))}</details>"


def _value(row: Row, first: bool) -> tuple[str, ...]:
    mark = '<span class="good">✓</span>' if row.agrees else f'<span class="bad">{"▶" if first else "✗"}</span>'
    error = row.judgement.rms_relative_error
    return (
        mark,
        f"<code>{escape(row.candidate)}</code>",
        escape(row.operator),
        escape(row.source or ""),
        "–" if math.isnan(error) else f"{error:.1e}",
        f"{row.tolerance.typical or 0:.1e}",
    )


# comparison


@_html.register
def _(comparison: Comparison) -> str:
    return f"{_matrix(comparison)}{_weak(comparison)}{_accuracy(comparison)}{_telling(comparison)}"


def _weak(comparison: Comparison) -> str:
    """Why what is said about these photos says little."""
    words = [("weak" if w.fails else "dim", escape(w.text)) for w in comparison.weaknesses]
    return "".join(f'<div class="{mood}">{text}</div>' for mood, text in words)


def _matrix(comparison: Comparison) -> str:
    agreement, total = comparison.agreement(), comparison.count
    rows = []
    for a in comparison.names:
        cells = [f"<b>{escape(a)}</b>"]
        for b in comparison.names:
            share = agreement[a][b] / total if total else 0.0
            # as the plot: shades begin at one half
            shade = f"background:rgba(26,115,232,{max(0.0, share - 0.5) * 1.1:.2f})"
            cells.append("·" if a == b else f'<span class="heat" style="{shade}">{agreement[a][b]}</span>')
        rows.append(cells)
    head = ("", *(escape(n) for n in comparison.names))
    title = escape(comparison.title or "agreement")
    caption = f"<b>{title}</b> <span class='dim'>same first class on so many of {total} photos</span>"
    return caption + _table(head, rows, range(1, len(head)))


def _accuracy(comparison: Comparison) -> str:
    found = comparison.accuracies
    if not found:
        return ""
    rows = [
        (escape(a.model), f"{a.top1}", f"{a.top5}", f"{a.photos}", f"{a.low:.0%} – {a.high:.0%}")
        for a in found.values()
    ]
    return _table(("model", "right", "in the first five", "photos", "95% of top 1"), rows, (1, 2, 3, 4))


def _telling(comparison: Comparison) -> str:
    pairs = [p for p in comparison.pairs.values() if p.count < p.photos]
    if not pairs:
        return ""
    worst = max(pairs, key=lambda p: p.divergence)
    photos = tuple(comparison.disagreements(worst.a, worst.b, _TELLING))
    return (
        f"<div>where <b>{escape(worst.a)}</b> and <b>{escape(worst.b)}</b> differ most</div>"
        f"{_photos(comparison, photos, (worst.a, worst.b))}"
    )


@_html.register
def _(shown: Photographs) -> str:
    return _photos(shown.comparison, shown.photos, shown.models)


def _photos(comparison: Comparison, photos: Sequence[str], models: Sequence[str]) -> str:
    pictures = thumbnails(comparison.source, photos)
    return "".join(_photo(comparison, photo, models, pictures.get(photo)) for photo in photos)


def _photo(comparison: Comparison, photo: str, models: Sequence[str], picture: str | None) -> str:
    truth = comparison.truth_of(photo)
    lines = []
    for model in models:
        index, probability = comparison.predictions(model, photo)[0]
        mood = "" if truth is None else "good" if index == truth else "bad"
        lines.append(
            f'<span class="dim">{escape(model)}</span> <span class="{mood}">{escape(comparison.class_name(index))}</span> '
            f"{probability:.0%}"
        )
    name = escape(photo if truth is None else f"{photo}: {comparison.class_name(truth)}")
    image = "" if picture is None else f'<img src="{picture}" alt="{name}">'
    return f'<figure>{image}<figcaption><span class="dim">{name}</span><br>{"<br>".join(lines)}</figcaption></figure>'


# findings


@_html.register
def _(diagnosis: Diagnosis) -> str:
    cards = "".join(_html(finding) for finding in diagnosis)
    if diagnosis.healthy:
        return f'<b class="good">healthy</b>: {escape(diagnosis.before)}{cards}'
    if diagnosis.healthy is None:
        only = "" if diagnosis.not_run is None else "nothing found, but the model was only "
        return f'<b class="weak">not known</b>: {only}{escape(diagnosis.before)}{cards}'
    standing = (("before", diagnosis.before), ("after", diagnosis.after))
    return cards + "<br>".join(f'<span class="dim">{when}</span> {escape(how)}' for when, how in standing)


@_html.register
def _(finding: Finding) -> str:
    parts = [
        ("found", finding.evidence),
        ("cause", finding.cause),
        ("repair", finding.repair),
        ("proof", finding.proof or ""),
    ]
    lines = "<br>".join(f'<span class="dim">{k}</span> {escape(v)}' for k, v in parts if v)
    mark = '<span class="good">✓</span>' if finding.repaired else '<span class="bad">✗</span>'
    layer = f" <code>{escape(finding.layer)}</code>" if finding.layer else ""
    state = "card repaired" if finding.repaired else "card"
    return f'<div class="{state}">{mark} <b>{escape(finding.rule)}</b>{layer}<br>{lines}</div>'
