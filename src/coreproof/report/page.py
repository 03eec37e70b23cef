"""page: one self-contained index.html, to be read offline and on a phone."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import jinja2

from coreproof.comparison.answers import Answer
from coreproof.comparison.comparison import Comparison
from coreproof.comparison.over_inputs import InputComparison
from coreproof.errors import InputError
from coreproof.model.files.atomic import replacing, replacing_together
from coreproof.model.files.outputs import COMPARISON, PAGE, check_output
from coreproof.model.numbers import bytes_as_text, json_ready
from coreproof.model.public import public
from coreproof.model.versions import versions
from coreproof.model.weakness import failing, qualified
from coreproof.report.answers import shown_answers
from coreproof.report.curve import Document
from coreproof.report.data import comparison_data, comparison_verdict, step_data, table_pairs
from coreproof.report.evidence import evidence
from coreproof.report.thumbnails import thumbnails
from coreproof.visible import visible, visible_in

_LARGEST = 4_900_000
"""Bytes of a page, pictures included."""


@public
def page(
    result: Comparison | InputComparison,
    folder: str | Path,
    *,
    replace: bool = False,
    command: str = "",
    lineup: str = "",
) -> Path:
    """Writes index.html and comparison.json of a comparison into a folder, both or none; returns the page.

    ``command`` and ``lineup``: how it can be made again, as the page shows it (see ``repeatable``).
    Raises OutputExistsError where something else stands in their places, unless ``replace`` allows it, and InputError for
    what is no comparison.

    Example:
        >>> labels = [f"class {k}" for k in range(256)]
        >>> saved = cp.convert("net.onnx", "mlprogram", images={"x": cp.ImageInput()}, labels=labels).save("named.mlpackage")
        >>> found = cp.compare({"one": "named.mlpackage", "other": "named.mlpackage"}, "photos")
        >>> cp.page(found, "report").as_posix()
        'report/index.html'

    """
    if not isinstance(result, Comparison | InputComparison):
        raise InputError(
            "there is no page of this",
            expected="a Comparison: what coreproof.compare or coreproof.compare_inputs returns",
            found=type(result).__name__,
            fix="coreproof.prove writes the page of a proof itself, into the folder of the proof",
        )
    folder = Path(folder)
    check_places(folder, replace=replace)
    with replacing_together(folder) as stage:
        result.save_json(stage)
        over = result if isinstance(result, InputComparison) else None
        photos = result if isinstance(result, Comparison) else None
        write_page(stage, proof=None, comparison=photos, over_inputs=over, place=folder, command=command, lineup=lineup)
    return folder / "index.html"


def check_places(folder: Path, *, replace: bool) -> None:
    """Raises OutputExistsError where ``page`` would replace something else."""
    check_output(folder / "index.html", PAGE, replace=replace)
    check_output(folder / "comparison.json", COMPARISON, replace=replace)


def write_page(
    folder: str | Path,
    *,
    proof: Document | None,
    comparison: Comparison | None,
    over_inputs: InputComparison | None = None,
    answers: Sequence[Answer] = (),
    called: Mapping[str, str] = MappingProxyType({}),
    place: Path | None = None,
    replace: bool = False,
    command: str = "",
    lineup: str = "",
) -> Path:
    """Writes index.html into ``folder`` from a proof, a comparison, or both; returns its path.

    ``proof`` is what ``Proof.to_json`` gives: title, verdict, steps, versions, command. ``place``: the folder from which the
    page will be read, where that is another one. ``answers``: what two of the models, ``called`` so by people, said of a few
    inputs; those of ``over_inputs`` need not be given. Raises OutputExistsError where something else than a page stands there,
    unless ``replace`` allows it.
    """
    stored = ((proof or {}).get("rests_on") or {}).get("models", {})
    files = {name: model["file"] for name, model in stored.items()}
    steps = [step_data(step, files) for step in (proof or {}).get("steps", ())]
    overview = None if comparison is None else comparison_verdict(comparison)
    shown = None if comparison is None or overview is None else evidence(comparison, overview["worst"])
    if over_inputs is not None:
        answers, called = over_inputs.answers, over_inputs.called
    told = shown_answers(answers, called)
    data = None if comparison is None else comparison_data(comparison)
    script = {
        "comparison": data,
        "rows": [[_columns(row) for row in step["rows"]] for step in steps],
        "curves": [[p["row"] for p in (step["curve"] or {"points": ()})["points"]] for step in steps],
    }
    template = environment().get_template("page.html.j2")

    def rendered() -> str:
        return template.render(
            title=_title(proof, comparison or over_inputs),
            verdict=_verdict(proof, comparison, over_inputs),
            steps=steps,
            comparison=comparison,
            over=over_inputs,
            overview=overview,
            evidence=shown,
            answers=told,
            weak=_weak(proof, comparison, over_inputs),
            pairs=[] if comparison is None else table_pairs(comparison),
            script=script,
            data=inside_script(script),
            store=_link(comparison, Path(folder) if place is None else place),
            versions=(proof or {}).get("versions") or versions(),
            command=(proof or {}).get("command") or command,
            lineup=lineup.strip(),
            rounds=any(_rounds(row["dtype"]) for step in steps for row in step["rows"]) or _has_half(comparison),
        )

    html = rendered()
    if comparison is not None and data is not None:  # pictures take what room is left
        names = [photo["name"] for photo in data["photos"]]
        pictures = thumbnails(comparison.source, names, _LARGEST - len(html.encode()))
        for photo in data["photos"]:
            photo["src"] = pictures.get(photo["name"], "")
        html = rendered()
    path = Path(folder) / "index.html"
    with replacing(path, PAGE, replace=replace) as fresh:
        fresh.write_text(html, encoding="utf-8")
    return path


def _link(comparison: Comparison | None, folder: Path) -> str | None:
    """The store as the page links it: beside it or above, never a path of this machine."""
    if comparison is None or comparison.store is None:
        return None
    try:
        return quote(Path(os.path.relpath(comparison.store, folder)).as_posix() + "/")
    except ValueError:  # on another drive
        return comparison.store.resolve().as_uri()


@cache
def environment() -> jinja2.Environment:
    """The templates of pages, and how they print numbers and text; to compile them takes longer than to fill one."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html", "j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
    )
    environment.filters.update(number=_number, percent=_percent, seconds=_seconds, size=bytes_as_text, word=shlex.quote)
    return environment


def _printable(value: object) -> object:
    """What a template prints: names cannot turn or hide anything; what is markup already is ours."""
    return visible(value, keep="\n\t") if isinstance(value, str) and not hasattr(value, "__html__") else value


def _title(proof: Mapping[str, object] | None, comparison: Comparison | InputComparison | None) -> str:
    if proof is not None and proof.get("title"):
        return str(proof["title"])
    return comparison.title if comparison is not None and comparison.title else "Comparison"


def _verdict(proof: Document | None, comparison: Comparison | None, over: InputComparison | None) -> Document:
    if proof is not None and proof.get("verdict"):
        verdict = proof["verdict"]
        state = "bad" if not verdict["agrees"] else "good" if verdict.get("proves", True) else "weak"
        return {"state": state, "text": verdict["text"]}
    if comparison is not None:
        return comparison_verdict(comparison)
    if over is not None:
        state = "weak" if failing(over.weaknesses) else "neutral"
        return {"state": state, "text": f"{qualified(over.text, over.weaknesses)}."}
    return {"state": "neutral", "text": "Nothing was compared."}


def _weak(proof: Document | None, comparison: Comparison | None, over: InputComparison | None) -> list[str]:
    """Why what agrees proves little, as the terminal says it below a verdict."""
    if proof is not None:
        verdict = proof.get("verdict") or {}
        return [weakness["text"] for weakness in verdict.get("weaknesses", ())] if verdict.get("agrees") else []
    found = comparison if comparison is not None else over
    return [] if found is None else [weakness.text for weakness in found.weaknesses]


def _columns(row: Mapping[str, object]) -> list[object]:
    """A row as the script's table takes it, in the order of its headings."""
    kind = f"{row['dtype']} {row['shape']}".strip()
    figures = (row[key] for key in ("relative", "tolerance", "used", "max", "mean", "cosine", "psnr"))
    return [row["agrees"], row["name"], row["operator"], row["source"], kind, *figures, row["problem"] or row["why"]]


def inside_script(value: object) -> str:
    """JSON that may stand inside a script element: no "<" can close it, no NaN can break it."""
    short = json_ready(visible_in(value), digits=9)
    text = json.dumps(short, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    # U+2028 and U+2029 end a line in JavaScript before 2019, and in JSON they do not
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _rounds(dtype: str) -> bool:
    return "float16" in dtype


def _has_half(comparison: Comparison | None) -> bool:
    return comparison is not None and any(model.format == "mlprogram" for model in comparison.models)


def _number(value: object, digits: int = 2) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:.{digits}g}" if isinstance(value, float) else f"{value:,}"


def _percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent; never rounds to 100 what is not all."""
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) >= 100:
        # 99.96 % with one digit would read 100.0: it is shown as 99.9
        text = f"{100 - 10**-digits:.{digits}f}"
    return text.removesuffix("." + "0" * digits) + "%"


def _seconds(value: object) -> str:
    if not isinstance(value, int | float):
        return ""
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60)} s"
