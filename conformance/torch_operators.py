"""PyTorch's own operator database (OpInfo) as a judge: one sample an operator, converted, run, held against eager PyTorch.

    python -m conformance.torch_operators [--every N] [--only NAME] [--formats mlprogram-fp32 ...] [--record]
    python -m conformance.torch_operators --failed [--record]

OpInfo (``torch.testing._internal.common_methods_invocations.op_db``) holds samples for every operator that PyTorch tests. The
first float32 sample whose answer is finite becomes a module; the tensors of the sample are its inputs, all else is written
into it. ``--record`` writes conformance/results/torch_operators.json. ``--failed`` judges again what that record says failed
or was refused; with ``--record`` those records are replaced, and each says at which commit it was judged.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import coreproof as cp
from conformance.allowed import Feed, difference, rounded, run_source
from conformance.origin import write_record
from conformance.trial import FORMATS, carry_out, faults, first_line, quiet, summary, trial
from coreproof.conversion.operators import meaning

RESULTS = Path(__file__).parent / "results" / "torch_operators.json"
SAMPLES = 40
"""How many samples of an operator are looked through for one that fits."""
SEED = 20180607
_BEGIN_WITH = ("conformance.preloaded_exporter", "torch.testing._internal.common_methods_invocations")


def judge(task: tuple[int, tuple[str, ...]]) -> dict[str, Any]:
    """What became of one operator, per format, in one word and a reason."""
    import torch

    index, formats = task
    quiet()
    torch.set_num_threads(1)
    operator = database()[index]
    record: dict[str, Any] = {"operator": name_of(operator)}
    try:
        module, tensors = sampled(operator)
    except _NoSample as error:
        return {**record, "skipped": str(error)}
    names = [f"x{i}" for i in range(len(tensors))]
    with torch.no_grad():
        answers = answer(module, tensors)
    try:
        source = cp.load(cp.Source(module, tuple(tensors)))
        inputs = [feature.name for feature in source.signature.inputs]
    except cp.CoreproofError as error:
        return {**record, **{name: ["refused", first_line(error)] for name in formats}}
    except Exception as error:
        return {**record, **{name: ["breaks", first_line(error)] for name in formats}}
    if len(inputs) != len(names):
        return {**record, "skipped": "the exporter drops an input that the answer does not depend on"}
    exported = _exported(source)
    if exported is not None and any(meaning(node.op_type).get("random", False) for node in exported.graph.node):
        return {**record, "skipped": "it draws its numbers: those of another engine are others"}
    fed: Feed = {name: tensor.numpy() for name, tensor in zip(inputs, tensors, strict=True)}
    exact: Feed = {f"y{i}": value for i, value in enumerate(answers)}
    finite_in_half = _finite_in_half(exported, fed)
    for name in formats:
        with tempfile.TemporaryDirectory() as folder:
            allowed = lambda half: allowances(module, tensors, answers, half, finite_in_half)  # noqa: E731
            record[name] = list(trial(Path(folder), source, fed, exact, name, allowed))
    return record


def _exported(source: cp.Model) -> onnx.ModelProto | None:
    """The operator taken apart as the exporter does; None where that fails, which the trial tells."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "source.onnx"
            cp.convert(source, "onnx", check=False).save(path)
            return onnx.load(path)
    except Exception:  # the exporter's own business
        return None


def _finite_in_half(exported: onnx.ModelProto | None, fed: Feed) -> bool:
    """Whether the operator has a finite answer in float16: squares may be beyond it."""
    if exported is None:
        return True
    try:
        found = run_source(rounded(exported), fed)
    except Exception:  # the engine's own business: what cannot be asked is no excuse
        return True
    return all(np.isfinite(v).all() for v in found.values() if v.dtype.kind == "f")


class _NoSample(Exception):
    pass


def database() -> list[Any]:
    """The operators, in a fixed order."""
    from torch.testing._internal.common_methods_invocations import op_db

    return sorted(op_db, key=name_of)


def name_of(operator: Any) -> str:
    return f"{operator.name}{'.' + operator.variant_test_name if operator.variant_test_name else ''}"


def sampled(operator: Any) -> tuple[Any, list[Any]]:
    """A module that calls the operator, and the tensors that it is fed."""
    import torch
    from torch.utils import _pytree

    if torch.float32 not in operator.supported_dtypes("cpu"):
        raise _NoSample("it takes no float32")
    torch.manual_seed(SEED)
    why = "it has no sample"
    try:
        samples = list(islice(operator.sample_inputs("cpu", torch.float32, requires_grad=False), SAMPLES))
    except Exception as error:
        raise _NoSample(f"its samples cannot be made: {first_line(error)[:120]}") from error
    for sample in sorted(samples, key=_without_dimensions):
        leaves, tree = _pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        tensors = [leaves[i].detach().clone() for i in places]
        if not tensors or any(t.numel() == 0 or t.dtype.is_complex or t.layout != torch.strided for t in tensors):
            why = "its samples are no tensors with numbers"
            continue
        module = _module(operator.op, leaves, tree, places)
        try:
            with torch.no_grad():
                first, second = answer(module, tensors), answer(module, tensors)
        except Exception as error:
            why = f"PyTorch does not run it: {first_line(error)[:120]}"
            continue
        if "empty" in operator.name:
            why = "its answer is memory that nobody wrote"
        elif not first or any(v.size == 0 or v.dtype.kind not in "fiub" for v in first):
            why = "it answers no real numbers"
        elif not all(np.isfinite(v).all() for v in first if v.dtype.kind == "f"):
            why = "its answer is not finite"
        elif any(difference(a, b) > 0 for a, b in zip(first, second, strict=True)):
            why = "it is random"
        else:
            return module, tensors
    raise _NoSample(why)


def _without_dimensions(sample: Any) -> bool:
    """Core ML has no inputs of rank 0: samples with such tensors come last."""
    import torch
    from torch.utils import _pytree

    leaves = _pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    return any(isinstance(leaf, torch.Tensor) and leaf.dim() == 0 for leaf in leaves)


def _module(op: Callable[..., Any], leaves: Sequence[Any], tree: Any, places: Sequence[int]) -> Any:
    import torch
    from torch.utils import _pytree

    class Called(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            filled = list(leaves)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            first, rest, named = _pytree.tree_unflatten(filled, tree)
            return op(first, *rest, **named)

    return Called().eval()


def answer(module: Any, tensors: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Eager PyTorch's; the inputs are copied, for some operators write into them."""
    import torch
    from torch.utils import _pytree

    made = module(*(tensor.clone() for tensor in tensors))
    leaves = [leaf for leaf in _pytree.tree_leaves(made) if isinstance(leaf, torch.Tensor)]
    return [leaf.detach().resolve_conj().resolve_neg().numpy() for leaf in leaves]


def allowances(
    module: Any, tensors: Sequence[Any], exact: Sequence[np.ndarray[Any, Any]], half: bool, finite_in_half: bool
) -> dict[str, float] | None:
    """Per output, what no honest conversion exceeds, from how far it moves with its inputs; as ``conformance.allowed`` has it."""
    import torch

    unit = 2.0**-10 if half else 2.0**-22
    moved = [0.0] * len(exact)
    for draw in range(4):
        generator = torch.Generator().manual_seed(draw)
        near = [
            t * (1 + unit * (2 * torch.rand(t.shape, generator=generator, dtype=t.dtype) - 1))
            if t.dtype.is_floating_point
            else t
            for t in tensors
        ]
        with torch.no_grad():
            found = answer(module, near)
        if any(v.dtype.kind == "f" and not np.isfinite(v).all() for v in found):
            return None
        moved = [max(m, difference(a, b)) for m, a, b in zip(moved, exact, found, strict=True)]
    scale = [float(np.max(np.abs(v.astype(np.float64)), initial=0.0)) for v in exact]
    if half and (any(s > np.finfo(np.float16).max for s in scale) or not finite_in_half):
        return None
    relative, least, times = (4e-3, 1e-3, 8) if half else (1e-4, 1e-6, 16)
    stored = [
        float(np.finfo(v.dtype).eps) if v.dtype.kind == "f" else 0.0 for v in exact
    ]  # an answer may be float16 itself
    return {
        f"y{i}": max(relative, own) * s + least + times * m
        for i, (s, m, own) in enumerate(zip(scale, moved, stored, strict=True))
    }


def main() -> int:
    """Runs the operators; 1 when any ended as none may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a part of the operator's name")
    parser.add_argument("--every", type=int, default=1, help="each N-th operator")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--failed", action="store_true", help="judge again what the record says failed, was refused or was judged again"
    )
    parser.add_argument("--record", action="store_true", help="write conformance/results/torch_operators.json")
    given = parser.parse_args()
    quiet()
    chosen = [i for i, operator in enumerate(database()) if given.only in name_of(operator)][:: given.every]
    if given.failed:
        again = {r["operator"] for r in _recorded()["records"] if faults(r) or _refused(r) or "commit" in r}
        chosen = [i for i in chosen if name_of(database()[i]) in again]
    tasks = [(index, tuple(given.formats)) for index in chosen]
    command = "python -m conformance.torch_operators" + (f" --every {given.every}" if given.every > 1 else "")
    if not given.failed:
        return carry_out(judge, tasks, given.jobs, RESULTS if given.record else None, command, _BEGIN_WITH)
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "again.json"
        ended = carry_out(judge, tasks, given.jobs, fresh, f"{command} --failed", _BEGIN_WITH)
        if given.record:
            _merge(_recorded(), json.loads(fresh.read_text(encoding="utf-8")))
    return ended


def _refused(record: Mapping[str, Any]) -> bool:
    return any(record.get(name, ("",))[0] == "refused" for name in FORMATS)


def _recorded() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def _merge(whole: dict[str, Any], again: dict[str, Any]) -> None:
    """Puts what was judged again in the place of what was recorded, each with its commit, and counts anew."""
    fresh = {r["operator"]: {**r, "commit": again["commit"]} for r in again["records"]}
    records = [fresh.get(r["operator"], r) for r in whole["records"]]
    merged = {**whole, **summary(records), "records": records}
    write_record(RESULTS, merged)


if __name__ == "__main__":
    sys.exit(main())
