"""PyTorch -> ONNX by torch.onnx.export, with the module path of every node kept."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.branches import Branches, branches_of, caught_within, traced_branches
from coreproof.conversion.torch_to_onnx.inner_names import name_as_traced
from coreproof.conversion.torch_to_onnx.operator_list import add_ours
from coreproof.conversion.torch_to_onnx.packed import has_recurrent_layers, with_padded_sequences
from coreproof.conversion.torch_to_onnx.quantised import refuse_quantised
from coreproof.conversion.torch_to_onnx.rewrites import exact_rewrites
from coreproof.conversion.torch_to_onnx.writing import NowhereRightError
from coreproof.errors import ConversionError
from coreproof.model.class_labels import refuse_misfit
from coreproof.model.coreml.noted_labels import note_labels, note_untrained
from coreproof.model.formats.free_name import free_name
from coreproof.model.noted_feeding import note_feeding
from coreproof.model.onnx.constants import known_tensor
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.torch.checks import names_checks
from coreproof.model.torch.gradients import without_complex_gradients
from coreproof.model.torch.kept import keeping_module
from coreproof.model.torch.model import TorchModel, array_of, depends_on_data, export_error, import_torch, quiet
from coreproof.model.torch.operator_list import operators_read_once
from coreproof.model.torch.padded_encoder import padding_emptied
from coreproof.model.torch.parted import parted_by_lengths
from coreproof.model.torch.plain_data import data_recorded
from coreproof.model.torch.promoted import numbers_promoted
from coreproof.model.torch.recurrent import kept_whole
from coreproof.model.torch.script_view import is_scripted
from coreproof.model.torch.spaced import lengths_compared, spaced_by_lengths
from coreproof.model.torch.unasked import computed_unasked
from coreproof.model.torch.user_code import causes, line_of, said_by, users_line
from coreproof.model.torch.whole_lengths import lengths_kept_free

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def torch_to_onnx(
    model: TorchModel,
    *,
    fold_batchnorm: bool = True,
    free: Mapping[str, Mapping[int, str]] | None = None,
    freeze_state: bool = False,
    freeze_branches: bool = False,
) -> OnnxModel:
    """Exports ``model`` with its example inputs.

    ``fold_batchnorm`` merges each BatchNorm into the convolution before it (numerically a rounding-level change);
    without it both stay separate nodes. ``free`` names the dimensions that are traced as free: input -> axis -> name, where
    equal names are equal lengths; the others keep the lengths of the example inputs.

    Buffers that the module changes while it runs cannot change in ONNX: they are refused, by name, unless ``freeze_state`` keeps
    them at what they hold before the export.

    A module that is frozen already (``frozen``) is taken as it is.

    Where the current exporter fails, the older tracing one is tried and the returned model's ``notes`` say so.
    A model that decides by its data which way it goes is not traced, which would keep one of its ways without a word: it is
    refused with each such line, unless ``freeze_branches`` allows it; then the notes say what was kept, and where.
    Raises ConversionError for such a model, and when both exporters fail, with the user's line and what each said.
    """
    from onnxscript import optimizer

    freeze_state, freeze_branches = freeze_state or model.frozen_state, freeze_branches or model.frozen_branches
    # an export runs the module: what it changes on the way is put back
    held = {name: buffer.detach().clone() for name, buffer in model.module.named_buffers()}
    names = list(model.example_outputs)
    refuse_misfit(model.signature, model.labels, model.name)
    shapes = _traced_free(model, free) if free else None
    try:
        # raised, so that it goes the way of whatever the current exporter fails on
        if model.scripted:
            raise _TorchScript("it is a TorchScript program, which the current exporter does not read")
        caught: list[str] = []
        with caught_within(caught):
            program = _exported(model, shapes, _longer(model, free or {}), optimize=fold_batchnorm)
        if caught and branches_of(model):
            raise _Caught(f"a data-dependent value, of which the module catches the exporter's error: {caught[0]}")
        exported = program.model
        if not fold_batchnorm:
            with exact_rewrites():
                optimizer.optimize(exported)
        _adopt_constants(exported.graph)
        # kept, so that inner values are compared by the names of this very trace
        model.program = program.exported_program
        notes = (*model.notes, *_left_out(model, program.exported_program))
    except Exception as error:
        exported, notes = _otherwise(model, names, error, free, freeze_branches=freeze_branches)
    _refuse_baked(exported, free or {}, model.name)
    changing = _changing_buffers(model, held)
    _refuse_training(model, exported, changing=bool(changing) and not freeze_state)
    if changing and not freeze_state:
        raise ConversionError(
            f"the module changes {len(changing)} buffer(s) while it runs, which would be frozen",
            where=model.name,
            expected="a module whose answers depend on what it is fed alone",
            found=", ".join(changing),
            fix="hand them in and out of forward, or keep them as they are: --freeze-state, freeze_state=True",
        )
    if changing:
        model.frozen_state = True
        notes = (*notes, f"frozen at what they held: {', '.join(changing)}; the module changes them while it runs")
    if len(exported.graph.outputs) != len(names):
        raise ConversionError(
            "the exported model has other outputs than the module",
            where=model.name,
            expected=f"{len(names)}: {', '.join(names)}",
            found=f"{len(exported.graph.outputs)}",
            fix="return tensors alone, each computed in forward",
        )
    # inner values keep the traced program's own names; only the outputs get the names a reader expects
    # an export is the source of what is made of it: its values are named after themselves
    provenance = name_as_traced(exported.graph)
    for value, name in zip(exported.graph.outputs, names, strict=True):
        provenance.pop(value.name or "", None)
        provenance[name] = value.name or name
        value.name = name
    exported.producer_name = "coreproof"
    note_labels(exported.metadata_props, model.labels)
    note_untrained(exported.metadata_props, model.untrained)
    note_feeding(exported.metadata_props, model.feeding)
    return OnnxModel(
        exported, name=model.name, notes=notes, feeding=model.feeding, labels=model.labels, provenance=provenance
    )


def _exported(
    model: TorchModel, shapes: object, examples: Sequence[tuple[torch.Tensor, ...]], *, optimize: bool
) -> torch.onnx.ONNXProgram:
    """The program of PyTorch's current exporter, traced with the first of these examples with which it succeeds."""
    torch = import_torch()
    attempts: list[tuple[tuple[object, ...], Callable[[], AbstractContextManager[None]]]]
    attempts = [(inputs, nullcontext) for inputs in examples]
    own: Exception | None = None
    for inputs, compared in attempts:
        try:
            with (
                quiet(),
                exact_rewrites(),
                kept_whole(),
                computed_unasked(),
                padding_emptied(),
                spaced_by_lengths(),
                parted_by_lengths(),
                keeping_module(model.module),
                nullcontext() if shapes is None else lengths_kept_free(model.module),
                compared(),
                numbers_promoted(),
                data_recorded(),
                operators_read_once(add_ours),
                without_complex_gradients(model.module),
            ):
                program = torch.onnx.export(
                    model.module,
                    inputs,
                    dynamo=True,
                    optimize=optimize,
                    verbose=False,
                    dynamic_shapes=shapes,
                    input_names=list(model.input_names),
                )
        except Exception as error:  # whatever the module says to an example that is not its own, its own decides
            if own is None and inputs is examples[-1]:
                own = error
                # a comparison of lengths may have held one fixed
                if any("Constraints violated" in str(each) for each in causes(error)):
                    attempts.append((inputs, lengths_compared))
            continue
        assert program is not None
        return program
    assert own is not None
    raise own


def _longer(model: TorchModel, free: Mapping[str, Mapping[int, str]]) -> list[tuple[torch.Tensor, ...]]:
    """The example repeated along its free axes of length 1, where it has any, and the example.

    Of a length of 1 a trace cannot tell what is meant for every length from what holds for 1 alone (what is broadcast, what is
    contiguous), and often holds it fixed.
    """
    inputs = model.example_inputs
    short = {
        name
        for feature, tensor in zip(model.input_names, inputs, strict=True)
        for axis, name in free.get(feature, {}).items()
        # torch.export takes 0 and 1 for special lengths, and traces what holds for those alone
        if tensor.shape[axis] == 1
    }
    if not short:
        return [inputs]
    grown = []
    for feature, tensor in zip(model.input_names, inputs, strict=True):
        repeats = [1] * tensor.dim()
        for axis, name in free.get(feature, {}).items():
            repeats[axis] = _REPEATED if name in short and tensor.shape[axis] == 1 else 1
        grown.append(tensor.repeat(repeats) if any(n != 1 for n in repeats) else tensor)
    return [tuple(grown), inputs]


_REPEATED = 3


def _otherwise(
    model: TorchModel,
    names: list[str],
    error: Exception,
    free: Mapping[str, Mapping[int, str]] | None,
    *,
    freeze_branches: bool,
) -> tuple[ir.Model, tuple[str, ...]]:
    """What the tracing exporter makes of a module on which the current one fails with ``error``, and notes; or that it raises."""
    branches = branches_of(model)
    # what TorchScript decides stays a decision in a trace
    model.scripted = model.scripted or branches.scripted
    # a trace has the numbers of the module's own; at other lengths they may be others
    followed = branches.scripted or branches.checks or (branches.only_own and not free)
    if depends_on_data(error) and not freeze_branches and (branches or not followed):
        raise branches.refusal(model.name) if branches else export_error(error, model.name) from error
    if (wrong := next((e for e in causes(error) if isinstance(e, NowhereRightError)), None)) is not None:
        raise ConversionError(
            str(wrong), where=users_line(error) or model.name, fix="give the input a fixed shape"
        ) from error
    exported = _export_by_tracing(model, names, error, free, branches)
    if branches and not freeze_branches:
        raise branches.refusal(model.name) from error
    model.frozen_branches = model.frozen_branches or bool(branches)
    model.traced_only = not branches
    why = "it is TorchScript" if isinstance(error, _TorchScript) else "PyTorch's current exporter fails on this model"
    notes = (*model.notes, f"exported by tracing, because {why}", *branches.notes(), *branches.left())
    if isinstance(error, _TorchScript):
        notes = (
            *notes,
            "what was decided as it was traced or scripted is as it was; TorchScript's own ifs and loops stay",
        )
    elif depends_on_data(error) and not branches and not branches.checks:
        notes = (*notes, f"nothing that hangs on the inputs was frozen at {users_line(error) or model.name}")
    elif not branches and not depends_on_data(error):
        notes = (*notes, f"what it said: {said_by(list(causes(error))[-1])}")
    return exported, notes


def _left_out(model: TorchModel, program: ExportedProgram) -> tuple[str, ...]:
    """A sentence for each line that only checks, which the exporter has followed: nothing reads what it compared then.

    Of PyTorch's own checks it leaves nothing at all.
    """
    unread = any(node.op == "call_function" and not node.users for node in program.graph.nodes)
    return branches_of(model).left() if unread or names_checks(model.module) else ()


class _TorchScript(Exception):
    """The module is one that only the older exporter reads."""


class _Caught(Exception):
    """The module's own ``except`` has gone on where the exporter ended: it traced a way that no call takes."""


def _traced_free(model: TorchModel, free: Mapping[str, Mapping[int, str]]) -> tuple[object, ...]:
    """The free dimensions as torch.export takes them, input by input."""
    torch = import_torch()
    # one Dim a name, so that equal names are equal lengths
    names = {n for axes in free.values() for n in axes.values()}
    # with the least length that is asked for: an irfft gives 2 * (n - 1), which is none of 1
    dimensions = {n: torch.export.Dim(str(n), min=max(1, getattr(n, "low", 1))) for n in names}
    each = tuple({axis: dimensions[n] for axis, n in free.get(name, {}).items()} for name in model.input_names)
    # what forward takes as *args is one parameter to torch.export
    parameters = list(inspect.signature(model.module.forward).parameters.values())
    starred = next((at for at, p in enumerate(parameters) if p.kind is p.VAR_POSITIONAL), None)
    return each if starred is None or starred >= len(each) else (*each[:starred], each[starred:])


def _refuse_baked(exported: ir.Model, free: Mapping[str, Mapping[int, str]], name: str) -> None:
    """Raises ConversionError where the exporter, which tries several ways, has gone one that holds a free length fixed."""
    lengths = {value.name: value.shape for value in exported.graph.inputs}
    baked = [
        f"axis {axis} of {feature!r} at the example's {shape[axis]}"
        for feature, axes in free.items()
        for axis in axes
        if (shape := lengths.get(feature)) is not None and axis < len(shape) and isinstance(shape[axis], int)
    ]
    if baked:
        raise ConversionError(
            "the module's own code goes by the numbers of lengths that are to be free, as a loop over range(x.shape[1]) does",
            where=name,
            expected="code that computes with lengths and does not count by them",
            found=f"PyTorch's exporter holds {', '.join(baked)}",
            fix="convert it with fixed lengths, once for each that is needed, or write the loop with tensor operations",
        )


def _refuse_training(model: TorchModel, exported: ir.Model, *, changing: bool) -> None:
    """Raises ConversionError for a module that trains although it was put into evaluation mode.

    It drops elements by chance, or counts what it is fed into its statistics (``changing``). Nobody would want that frozen.
    """
    training = [
        (f"{name or 'the module'} ({type(m).__name__})", m)
        for name, m in model.module.named_modules()
        if getattr(m, "training", False)
    ]
    told = [said for said, m in training if "Dropout" in said and getattr(m, "p", None)]
    # BatchNorm counts what it is fed into its running mean and variance
    told += [said for said, m in training if changing and getattr(m, "track_running_stats", False)]
    dropped = [node for node in exported.graph if node.op_type == "Dropout" and _is_training(node)]
    if not dropped and not (changing and told):
        return
    lines = [line for node in dropped if (line := _users_line_of(node)) is not None]
    raise ConversionError(
        "the module trains although it was put into evaluation mode",
        where=", ".join(dict.fromkeys(lines)) or model.name,
        expected="a module that answers the same each time after .eval()",
        found=f"in training mode: {', '.join(told[:8])}" if told else "dropout with training=True",
        fix="call no .train() in forward, let train(mode) keep the mode that it is given, and write "
        "dropout(x, p, training=self.training)",
    )


def _is_training(node: ir.Node) -> bool:
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    held = known_tensor(mode)
    return held is not None and bool(held.numpy().any())


def _users_line_of(node: ir.Node) -> str | None:
    """The user's line that called the operator, as the exporter noted it."""
    return _last_call(node.metadata_props.get("pkg.torch.onnx.stack_trace", ""))


def _line_under_translation(error: BaseException) -> str | None:
    """The user's line that called what the exporter was translating as it failed, which it knows and does not say."""
    for each in causes(error):
        for frame, _ in traceback.walk_tb(each.__traceback__):
            meta = getattr(frame.f_locals.get("node"), "meta", None)
            if isinstance(meta, Mapping) and (line := _last_call(str(meta.get("stack_trace") or ""))) is not None:
                return line
    return None


def _last_call(stack: str) -> str | None:
    lines = stack.splitlines()
    # frames of PyTorch's own are left out: the last one besides is the user's
    calls = [m for text in lines if (m := _CALL.search(text)) and "/torch/" not in m["file"].replace("\\", "/")]
    return line_of(calls[-1]["file"], int(calls[-1]["line"])) if calls else None


_CALL = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def _changing_buffers(model: TorchModel, held: Mapping[str, torch.Tensor]) -> list[str]:
    """The buffers that the module changes while it runs: as the traced program says, or as one more run shows.

    They are put back to what they ``held`` before the export, which runs the module as well.
    """
    torch = import_torch()
    found: set[str] = set()
    if model.program is not None:
        found.update(getattr(model.program.graph_signature, "buffers_to_mutate", {}).values())
    elif held:
        with torch.no_grad(), quiet():
            model.module(*(x.clone() for x in model.example_inputs))
    now = dict(model.module.named_buffers())
    with torch.no_grad():
        for name, before in held.items():
            after = now.get(name)
            if after is None or after.shape != before.shape:
                found.add(name)
            elif not torch.equal(after, before):
                found.add(name)
                after.copy_(before)
    return [name for name in held if name in found] + sorted(found - set(held))


def _adopt_constants(graph: ir.Graph) -> None:
    """Gives the graph the constants that its nodes read and that nobody registered.

    The exporter's rewrites merge two clips into one, and forget its new bounds where it has one of that name already.
    """
    taken = set(graph.initializers) | {v.name for v in graph.inputs} | {v.name for n in graph for v in n.outputs}
    for value in dict.fromkeys(v for node in graph for v in node.inputs if v is not None):
        held = value.producer() is not None or value.is_graph_input() or value.is_initializer()
        if held or value.const_value is None:
            continue
        value.name = free_name(value.name or "constant", taken)
        taken.add(value.name)
        graph.register_initializer(value)


@contextmanager
def _no_dumped_graphs() -> Iterator[None]:
    """Keeps the tracing exporter from writing its graph to the process's own standard output where it fails.

    Its C++ part does so whatever its own switch for logging says.
    """
    from unittest.mock import patch

    with patch.object(import_torch()._C, "_jit_onnx_log", lambda *_: None, create=True):
        yield


def _export_by_tracing(
    model: TorchModel,
    names: list[str],
    first: Exception,
    free: Mapping[str, Mapping[int, str]] | None,
    branches: Branches,
) -> ir.Model:
    torch = import_torch()
    try:
        with quiet(), _no_dumped_graphs(), traced_branches(branches):
            module = model.module
            if model.scripted and not is_scripted(module):
                # torch.onnx traces no module that holds TorchScript; torch.jit does, and keeps its ifs
                module = torch.jit.trace(module, model.example_inputs, check_trace=False)
            try:
                exported = _traced(module, model, names, free)
            except RuntimeError as error:
                if is_scripted(module) or not has_recurrent_layers(module):
                    raise
                try:
                    exported = _traced(with_padded_sequences(module), model, names, free)
                except Exception:
                    raise error from None  # what ends both ways is told of the module as it is
                del exported.graph.outputs[len(names) :]
    except Exception as second:
        refuse_quantised(model, first)
        raise ConversionError(
            "PyTorch cannot export this model to ONNX",
            where=users_line(first) or _line_under_translation(first) or users_line(second) or model.name,
            found=f"torch.onnx.export(dynamo=True): {said_by(list(causes(first))[-1])}; dynamo=False: {said_by(second)}",
            fix="write that line with torch operations that ONNX has, or take this part out of the model first; shapes that "
            "depend on data (such as non-maximum suppression inside the model) must be taken out too",
        ) from first
    _keep_inputs(exported, model, free or {})
    return exported


def _traced(
    module: torch.nn.Module, model: TorchModel, names: list[str], free: Mapping[str, Mapping[int, str]] | None
) -> ir.Model:
    """What the tracing exporter writes of ``module``, fed as the model is."""
    import io

    import onnx

    written = io.BytesIO()
    batch = next((axes[0] for axes in (free or {}).values() if 0 in axes), None)
    axes = {name: dict(of) for name, of in (free or {}).items()} or None
    if axes is not None and batch is not None:
        axes.update({name: {0: batch} for name in names})
    with keeping_module(module):
        import_torch().onnx.export(
            module,
            model.example_inputs,
            written,
            dynamo=False,
            opset_version=18,
            input_names=list(model.input_names),
            output_names=names,
            dynamic_axes=axes,
        )
    return ir.from_proto(onnx.load_model_from_string(written.getvalue()))


def _keep_inputs(exported: ir.Model, model: TorchModel, free: Mapping[str, Mapping[int, str]]) -> None:
    """Gives the model each input of the module: the tracer leaves out those whose values were frozen, which nothing reads."""
    kept = {value.name: value for value in exported.graph.inputs}
    for name, tensor in zip(model.input_names, model.example_inputs, strict=True):
        if name not in kept:
            axes = free.get(name, {})
            kept[name] = ir.Value(
                name=name,
                type=ir.TensorType(ir.DataType.from_numpy(array_of(tensor).dtype)),
                shape=ir.Shape([axes.get(axis, length) for axis, length in enumerate(tensor.shape)]),
            )
    exported.graph.inputs[:] = [kept.pop(name) for name in model.input_names if name in kept] + [*kept.values()]
