"""Model families that people ship, with seeded weights: converted, run and held against PyTorch's own output.

    python -m conformance.model_families [--only TEXT ...] [--kind timm ...] [--jobs N] [--again] [--record]

One small network a family: timm and torchvision (two of blocks that repeat), transformers (tiny configurations), plain
networks. Each is judged in float32 and float16 by what ``conformance.allowed`` grants (in float16 beside PyTorch's own half
precision), by ``verify``, and once more at another length or batch where that is free. Each runs in a process of its own.
``--record`` puts each into conformance/results/model_families.json as soon as it is judged, with its commit, and leaves out
what stands there: a run that is ended goes on there. It writes docs/families.md at its end.
timm and transformers are not among coreproof's own requirements: conformance/families-requirements.txt has them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import coreproof as cp
from conformance.allowed import Feed, difference
from conformance.family_networks import FAMILIES, LENGTH, OTHER_LENGTH, SEED, made
from conformance.origin import origin, write_record
from conformance.trial import first_line, quiet, trial
from coreproof.model.files.atomic import replacing

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
RESULTS = Path(__file__).parent / "results" / "model_families.json"
FORMATS = ("mlprogram-fp32", "mlprogram-fp16")
OTHER = "other size"
APART = ("beyond the format", "not exportable")
"""What is no judgement of a conversion: float16 does not hold the values, or PyTorch itself has no program of the module."""
SECONDS, WAITED = 900, 5400
"""Of processor time for one family, and by the clock: on a machine that is shared the two lie far apart."""


def flat(answer: Any) -> list[np.ndarray[Any, Any]]:
    """The tensors of what a module returns."""
    import torch

    from coreproof.model.torch.model import name_outputs

    return [
        leaf.detach().float().numpy() if leaf.dtype in (torch.float16, torch.bfloat16) else leaf.detach().numpy()
        for leaf in name_outputs(answer).values()
    ]


def judge(kind: str, name: str) -> dict[str, Any]:
    """What became of one family, a format at a time, in one word and a reason."""
    import torch

    quiet()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"family": f"{kind}:{name}", "commit": origin("conformance.model_families")["commit"]}
    started = time.monotonic()
    try:
        with torch.no_grad():
            module, inputs, free = made(kind, name)
            exact = flat(module(**inputs))
    except (
        Exception
    ) as error:  # a configuration that these numbers do not fit, or a family that the library has no more
        return {**record, "skipped": f"it cannot be made: {first_line(error)}"}
    if not all(np.isfinite(v).all() for v in exact if v.dtype.kind == "f"):
        return {**record, "skipped": "PyTorch's own answer is not finite"}
    half = _in_half(module, inputs)
    try:
        source = cp.load(cp.Source(module, dict(inputs)))
        names = [f.name for f in source.signature.outputs]
    except cp.CoreproofError as error:
        why = _not_exportable(module, inputs)
        ended = ["not exportable", why] if why else ["refused", first_line(error)]
        return {**record, **dict.fromkeys(FORMATS, ended)}
    fed: Feed = {f.name: t.numpy() for f, t in zip(source.signature.inputs, inputs.values(), strict=True)}
    known: Feed = dict(zip(names, exact, strict=True))
    for form in FORMATS:
        allowed = partial(allowances, module, inputs, known, half)
        with tempfile.TemporaryDirectory() as folder:
            record[form] = list(trial(Path(folder), source, fed, known, form, lambda narrow: allowed(narrow)))  # noqa: B023
    if free:
        record[OTHER] = list(_at_another_size(module, inputs, free))
    if any(record[form][0] in ("refused", "breaks") for form in FORMATS) and (why := _not_exportable(module, inputs)):
        for form in (*FORMATS, OTHER):
            if record.get(form, [""])[0] in ("refused", "breaks"):
                record[form] = ["not exportable", why]
    return {**record, "seconds": round(time.monotonic() - started)}


def _not_exportable(module: Any, inputs: Mapping[str, Any]) -> str:
    """What PyTorch's own export says against the module with these inputs, without any help of ours; nothing where it has one."""
    import torch

    try:
        with torch.no_grad():
            torch.export.export(module, (), dict(inputs), strict=False)
    except Exception as error:  # every kind of it, also those of the module's own code
        return first_line(error)
    return ""


def _in_half(module: Any, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]] | None:
    """PyTorch's answer in half precision; None where its CPU kernels do not have that."""
    import copy

    import torch

    try:
        narrow = copy.deepcopy(module).half()
        with torch.no_grad():
            return flat(narrow(**{k: v.half() if v.is_floating_point() else v for k, v in inputs.items()}))
    except Exception:  # a kernel that PyTorch has not for half precision, or code that names float32
        return None


def allowances(
    module: Any, inputs: Mapping[str, Any], exact: Feed, half: Sequence[np.ndarray[Any, Any]] | None, narrow: bool
) -> dict[str, float] | None:
    """Per output, what no honest conversion exceeds; None where PyTorch itself has no finite answer in half precision."""
    scale = {n: float(np.max(np.abs(v.astype(np.float64)), initial=0.0)) for n, v in exact.items()}
    moved = _moved(module, inputs, exact, 2.0**-10 if narrow else 2.0**-22)
    if not narrow:
        return {n: 1e-4 * scale[n] + 1e-6 + 16 * moved[n] for n in exact}
    if half is not None and any(not np.isfinite(v).all() for v in half if v.dtype.kind == "f"):
        return None
    lost = {
        n: 0.0 if half is None else difference(v, own)
        for (n, v), own in zip(exact.items(), half or exact.values(), strict=True)
    }
    return {n: 4e-3 * scale[n] + 1e-4 + max(8 * moved[n], 8 * lost[n]) for n in exact}


def _moved(module: Any, inputs: Mapping[str, Any], exact: Feed, unit: float) -> dict[str, float]:
    """How far each output moves when all weights and inputs move by ``unit``, the most of three draws."""
    import torch

    found = dict.fromkeys(exact, 0.0)
    held = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    def near(tensor: Any, generator: Any) -> Any:
        noise = 2 * torch.rand(tensor.shape, generator=generator) - 1
        return tensor * (1 + unit * noise).to(tensor.dtype) if tensor.is_floating_point() else tensor

    with torch.no_grad():
        for draw in range(3):
            generator = torch.Generator().manual_seed(draw)
            for name, parameter in module.named_parameters():
                parameter.copy_(near(held[name], generator))
            for name, value in zip(
                exact, flat(module(**{k: near(v, generator) for k, v in inputs.items()})), strict=True
            ):
                found[name] = max(found[name], difference(exact[name], value))
        for name, parameter in module.named_parameters():
            parameter.copy_(held[name])
    return found


def _at_another_size(module: Any, inputs: Mapping[str, Any], free: Mapping[str, list[Any]]) -> tuple[str, str]:
    """Converted with free lengths, and judged in float32 at the example's size and at another."""
    import torch

    def other(name: str, tensor: Any) -> Any:
        if name not in free:
            return tensor
        if free[name][0] != 1:  # the batch is free
            return torch.cat([tensor, tensor.flip(-1), tensor.neg()])
        asked = (
            slice(n * OTHER_LENGTH // LENGTH) if isinstance(f, tuple) else slice(None)
            for n, f in zip(tensor.shape, free[name], strict=True)
        )
        return tensor[tuple(asked)]

    try:
        # other inputs that share a free batch follow it
        source = cp.load(cp.Source(module, dict(inputs)))
        model = cp.convert(source, "mlprogram", precision="fp32", shapes=free)
    except cp.CoreproofError as error:
        return "refused", first_line(error)
    except Exception as error:
        return "breaks", first_line(error)
    for given in (inputs, {name: other(name, tensor) for name, tensor in inputs.items()}):
        with torch.no_grad():
            exact = dict(zip((f.name for f in source.signature.outputs), flat(module(**given)), strict=True))
        granted = allowances(module, given, exact, None, False)
        try:
            with cp.session(model) as running:
                answer = running.run(
                    dict(
                        zip((f.name for f in model.signature.inputs), (t.numpy() for t in given.values()), strict=True)
                    )
                )
        except Exception as error:
            return "does not run", first_line(error)
        for (name, value), found in zip(exact.items(), answer.values(), strict=True):
            off = difference(value, found)
            if granted is None or not off <= granted[name]:
                return "wrong", f"{name} at {[tuple(t.shape) for t in given.values()]}: off by {off:.3g}"
    return "right", ""


def _in_a_process(family: str) -> dict[str, Any]:
    """Judges in a process of its own, forked from a server that has imported the libraries; one that dies breaks its family."""
    workers = get_context("forkserver")
    here, there = workers.Pipe(duplex=False)
    worker = workers.Process(target=_judged, args=(family, there), daemon=True)
    worker.start()
    there.close()
    try:
        if here.poll(WAITED):
            return dict(here.recv())
        said = f"not done within {WAITED} s by the clock"
    except EOFError:
        worker.join(10)
        done = worker.exitcode == -signal.SIGXCPU
        said = f"not done in {SECONDS} s of a processor" if done else f"the process ended with {worker.exitcode}"
    finally:
        worker.kill()
        worker.join()
    commit = origin("conformance.model_families")["commit"]
    return {"family": family, "commit": commit, **{form: ["breaks", said] for form in FORMATS}}


def _judged(family: str, answer: Any) -> None:
    with open(os.devnull, "w") as nothing:
        for stream in (1, 2):  # libraries write there while they work
            os.dup2(nothing.fileno(), stream)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 60))
    answer.send(judge(*family.split(":", 1)))


def page(recorded: Mapping[str, Any]) -> str:
    """docs/families.md: what became of each family, and the reason of each that is not right."""
    columns = {"mlprogram-fp32": "ML Program fp32", "mlprogram-fp16": "ML Program fp16", OTHER: "free lengths"}
    lines = [
        "# Model families that were carried to Core ML and judged",
        "",
        "One small network a family, with seeded random weights, against PyTorch's own output: in float32, in float16 (beside",
        "PyTorch's own half precision), and converted once more with its length or batch free, at two sizes. A dash: nothing is",
        f"free. Made by `{recorded['command']}`, the last at {recorded['commit']} on {recorded['date']}",
        f"(seed {recorded['seed']}); the record names the commit at which each was judged.",
        "",
        "| | judged | " + " | ".join(columns.values()) + " |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    records = [r for r in recorded["records"] if "skipped" not in r]
    for kind in FAMILIES:
        mine = [r for r in records if r["family"].startswith(f"{kind}:")]
        cells = []
        for column in columns:
            found = [r[column][0] for r in mine if column in r and r[column][0] not in APART]
            cells.append(f"{found.count('right')} of {len(found)}")
        lines.append(f"| {kind} | {len(mine)} | " + " | ".join(cells) + " |")
    lines += ["", "| family | " + " | ".join(columns.values()) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {r['family']} | " + " | ".join(r[c][0] if c in r else "-" for c in columns) + " |" for r in records]
    reasons = {"What is not right, and why": list[str](), "What PyTorch itself cannot export": list[str]()}
    apart = list(reasons)
    for r in records:
        for c, title in columns.items():
            if c in r and r[c][0] != "right":
                said = f"- {r['family']}, {title}: {r[c][0]}: {_escaped(r[c][1])}"
                reasons[apart[r[c][0] == "not exportable"]].append(said)
    for title, found in reasons.items():
        if found:
            lines += ["", f"## {title}", "", *found]
    skipped = [f"- {r['family']}: {_escaped(r['skipped'])}" for r in recorded["records"] if "skipped" in r]
    if skipped:
        lines += ["", "## What could not be judged", "", *skipped]
    if left := recorded.get("not judged yet"):
        lines += ["", "## Not judged yet", "", f"{len(left)}: {', '.join(left)}"]
    return "\n".join(lines) + "\n"


def _escaped(reason: str) -> str:
    """A reason as Markdown shows it as it stands."""
    return f"`{reason[:300].replace('`', chr(39))}`" if reason else "no reason was given"


def stored() -> dict[str, dict[str, Any]]:
    """What the record holds, by family; nothing of families that the list has no more."""
    if not RESULTS.exists():
        return {}
    listed = {f"{kind}:{name}" for kind, names in FAMILIES.items() for name in names}
    records = json.loads(RESULTS.read_text(encoding="utf-8"))["records"]
    return {record["family"]: record for record in records if record["family"] in listed}


def whole(known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The record of all that is judged so far, in the order of the list, and what it leaves open."""
    listed = [f"{kind}:{name}" for kind, names in FAMILIES.items() for name in names]
    records = [known[family] for family in listed if family in known]
    open_yet = [family for family in listed if family not in known]
    head = {**origin("conformance.model_families", whole=True), "seed": SEED}
    return {**head, **counted(records), "not judged yet": open_yet, "records": records}


def counted(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many ended how, by format."""
    counts = {form: dict(Counter(r[form][0] for r in records if form in r)) for form in (*FORMATS, OTHER)}
    return {"families": len(records), "skipped": sum("skipped" in r for r in records), **counts}


def main() -> int:
    """Judges the families; 1 when less than 97% of what was judged is right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[""], help="parts of a family's name, one of which it has")
    parser.add_argument("--kind", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="judge also what stands in the record")
    parser.add_argument("--record", action="store_true", help=f"go on with {RESULTS.name}, and write {PAGE.name}")
    given = parser.parse_args()
    chosen = [
        f"{kind}:{name}" for kind in given.kind for name in FAMILIES[kind] if any(part in name for part in given.only)
    ]
    known = stored() if given.record else {}
    todo = [family for family in chosen if given.again or family not in known]
    get_context("forkserver").set_forkserver_preload(["conformance.preloaded_exporter"])
    with ThreadPoolExecutor(given.jobs) as pool:
        for record in pool.map(_in_a_process, todo):
            known[record["family"]] = record
            said = (f"{form}: {' '.join(record[form])}" for form in (*FORMATS, OTHER) if form in record)
            print(record["family"], *said, record.get("skipped", ""), flush=True)
            if given.record:
                write_record(RESULTS, whole(known))
    if given.record:
        write_record(RESULTS, whole(known))
        with replacing(PAGE) as fresh:
            fresh.write_text(page(whole(known)))
    records = [known[family] for family in chosen if family in known]
    print(json.dumps(counted(records), indent=1))
    judged = [r[form][0] for r in records for form in FORMATS if form in r and r[form][0] not in APART]
    right = sum(word == "right" for word in judged)
    print(f"{right} of {len(judged)} right")
    return int(right < 0.97 * len(judged))


if __name__ == "__main__":
    sys.exit(main())
