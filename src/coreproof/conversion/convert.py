"""convert: one format into another, in as many steps as it takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coreproof.conversion.fixed_lengths import with_fixed_lengths
from coreproof.conversion.shapes import NamedRange, check_names, free_name, shapes_of_rank, with_batches
from coreproof.errors import ConversionError, CoreproofError, InputError
from coreproof.model.arguments import PRECISIONS, one_of
from coreproof.model.base import Model
from coreproof.model.declared_outputs import require_outputs
from coreproof.model.opened import opened
from coreproof.model.remembered import note_pairs

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.features import ImageInput
    from coreproof.model.onnx.model import OnnxModel
    from coreproof.model.torch.model import TorchModel

Target = Literal["onnx", "mlprogram", "neuralnetwork", "coreai"]
TARGETS: tuple[Target, ...] = ("onnx", "mlprogram", "neuralnetwork", "coreai")


def convert(
    model: Model | str | Path | object,
    to: Target,
    *,
    precision: Literal["fp16", "fp32", "float16", "float32"] | None = None,
    target: str | None = None,
    images: Mapping[str, ImageInput] | None = None,
    labels: Sequence[str] | Sequence[int] | None = None,
    shapes: Mapping[str, object] | None = None,
    batch: int | str | None = None,
    fold_batchnorm: bool = True,
    keep_fp32: Collection[str] = (),
    freeze_state: bool = False,
    freeze_branches: bool = False,
    states: Mapping[str, str] | None = None,
    compress: str | None = None,
    keep_size: Collection[str] = (),
) -> Model:
    """Converts a model without looking at the result; the arguments are those of ``coreproof.convert``, which does.

    Raises InputError for an argument that is none of its list, UnsupportedOperatorsError (all of them at once) and
    ConversionError.
    """
    from coreproof.model.load import load

    to = _format(to)
    if precision is not None:
        precision = one_of(precision, PRECISIONS, "precision")
    if to == "coreai":
        _refuse_for_coreai(target=target, images=images, labels=labels, compress=compress)
    elif to != "onnx":
        from coreproof.conversion.onnx_to_coreml.features import ios_version

        ios_version(target, to)  # before a model is read and traced, which takes its time
    scheme = None
    if compress is not None:
        from coreproof.conversion.onnx_to_coreml.compression_scheme import read_scheme

        if to == "onnx":
            raise InputError("compress= is for an ML Program", found='to="onnx"')
        scheme = read_scheme(compress)
    if keep_size and scheme is None:
        raise InputError("keep_size= goes with compress=", found="no way to compress")
    if labels is not None and not isinstance(labels, Sequence | Path):
        raise InputError("labels are a list of texts, one a class, or a file of them", found=repr(labels))
    given = source = load(model)
    if states is not None and not source.is_onnx:
        raise InputError(
            "states= says what an ONNX model remembers", where=source.name, found=f"a model of format {source.format}"
        )
    if to == "coreai" and source.is_program:
        _refuse_for_coreai(precision=precision, shapes=shapes, batch=batch, keep_fp32=keep_fp32, states=states)
        return _program_to_coreai(source)
    if not freeze_state:
        source = opened(source, states)
    if batch is not None:
        shapes = with_batches(source.signature.inputs, shapes or {}, batch)
    if to == "onnx":
        if shapes and not source.is_torch:
            raise InputError(
                "shapes are freed where a PyTorch module is exported, and where Core ML is made",
                where=source.name,
                found=f"a model of format {source.format}, to ONNX",
                fix="leave shapes and batch out",
            )
        made = to_onnx(
            source, fold_batchnorm, shapes=shapes, freeze_state=freeze_state, freeze_branches=freeze_branches
        )
        exported = with_fixed_lengths(made, shapes) if shapes else made
        exported.made_from = _outlines(given, source)
        return exported
    if not source.is_source and not (to == "coreai" and source.is_coreml):
        upgrade = "coreproof upgrade MODEL OUT.mlpackage turns a NeuralNetwork into an ML Program"
        raise ConversionError(
            f"there is no way from {source.format} to {to}",
            where=source.name,
            expected="an ONNX or PyTorch model",
            fix=upgrade if (source.format, to) == ("neuralnetwork", "mlprogram") else None,
        )
    from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml

    frozen = {"freeze_state": freeze_state, "freeze_branches": freeze_branches}
    middle = to_onnx(source, fold_batchnorm, shapes=shapes, **frozen)
    converted = onnx_to_coreml(
        middle,
        "mlprogram" if to == "coreai" else to,
        precision=precision,
        # the newest, so that all operations and states are there
        target="iOS18" if to == "coreai" else target,
        images=images,
        labels=labels,
        shapes=shapes,
        keep_fp32=keep_fp32,
        states=middle.remembers,
        compress=scheme,
        keep_size=keep_size,
        # Core AI has neither texts nor pipelines
        stages=to != "coreai",
    )
    outlines = _outlines(given, source, middle)
    if to == "coreai":
        stored = _program_to_coreai(converted, source)
        # through the program between: its values are those of the model that it was made of
        between = converted.provenance
        stored.provenance = {
            value: between[program] for value, program in stored.provenance.items() if program in between
        }
        stored.made_from = outlines
        return stored
    converted.made_from = outlines
    return converted


def _program_to_coreai(model: Model, source: Model | None = None) -> Model:
    """The Core AI model of an ML Program, and of what that was made of."""
    from coreproof.conversion.mil_to_coreai.convert import coreml_to_coreai
    from coreproof.conversion.mil_to_coreai.left_behind import kind_left_behind, left_behind
    from coreproof.model.coreml.model import CoreMLModel

    assert isinstance(model, CoreMLModel)
    made = coreml_to_coreai(model)
    if source is not None:
        # what the program between has lost already
        gone = (*kind_left_behind(source), *left_behind(source.signature))
        made.notes = tuple(dict.fromkeys((*made.notes, *map(str, gone))))
    return made


def _refuse_for_coreai(**given: object) -> None:
    """Raises InputError for an argument that has no place here, and MissingDependencyError without Apple's package."""
    from coreproof.model.coreai.child import require_packages

    require_packages()  # before a model is read and traced, which takes its time
    said = [name for name, value in given.items() if value not in (None, (), {}, "")]
    if said:
        raise InputError(
            f"{said[0]}= is for Core ML, or for what an ML Program is made of first",
            found='to="coreai"',
            fix="an ML Program is translated as it is: convert to one with these arguments, and that one to Core AI",
        )


_SUFFIXES: Mapping[str, Target] = {
    ".onnx": "onnx",
    ".mlpackage": "mlprogram",
    ".mlmodel": "neuralnetwork",
    ".aimodel": "coreai",
}


def _format(to: object) -> Target:
    """``to`` as one of the formats; whoever names a file, as the command line takes it, is told how to write one."""
    suffix = Path(to).suffix if isinstance(to, str | Path) else ""
    if suffix in _SUFFIXES:
        raise InputError(
            f"to= names a format, and {str(to)!r} is a file",
            expected=", ".join(TARGETS),
            fix=f"convert(model, {_SUFFIXES[suffix]!r}).save({str(to)!r})",
        )
    return one_of(to, TARGETS, "to")


def to_onnx(
    source: Model, fold_batchnorm: bool = True, shapes: Mapping[str, object] | None = None, **frozen: bool
) -> OnnxModel:
    """The ONNX model that a conversion makes of a model first, or that it is; the arguments are those of ``convert``.

    Raises as ``convert`` does.
    """
    from coreproof.model.onnx.model import OnnxModel

    require_outputs(source, ConversionError)
    if isinstance(source, OnnxModel):
        note_pairs(source.ir.metadata_props, source.remembers)
        return source
    if source.is_torch:
        from coreproof.conversion.torch_to_onnx.export import torch_to_onnx
        from coreproof.model.torch.model import TorchModel

        assert isinstance(source, TorchModel)
        if shapes:
            source = _at_fixed_lengths(source, shapes)
        free = _free_dimensions(source, shapes) if shapes else None
        with source.evaluation():
            exported = torch_to_onnx(source, fold_batchnorm=fold_batchnorm, free=free, **frozen)
        if began := [name for name, array in source.examples.items() if name in source.remembers and array.any()]:
            note = (
                f"it begins with what the module's buffers hold, and not with zeros: {', '.join(began)}; write it first"
            )
            exported.notes = (*exported.notes, note)
        return _remembering(exported, source.remembers)
    from coreproof.conversion.lowered import lowered_to_onnx
    from coreproof.model.coreml.noted_labels import note_labels, note_untrained

    # without the roundings of float16: they are how Apple's frameworks compute, not what the model means
    lowered = lowered_to_onnx(source, "fp32")
    note_labels(lowered.model.metadata_props, source.signature.labels)
    note_untrained(lowered.model.metadata_props, source.untrained)
    made = OnnxModel(lowered.model, name=source.name, labels=source.signature.labels)
    return _remembering(made, source.remembers)


def _outlines(*models: Model) -> frozenset[str]:
    """Of what a conversion's provenance names; a PyTorch module that no program was traced of has no names of its own."""
    return frozenset(m.graph.outline for m in models if not m.is_torch or getattr(m, "program", None) is not None)


def _remembering(made: OnnxModel, pairs: Mapping[str, str]) -> OnnxModel:
    """The model, which says itself what it remembers."""
    note_pairs(made.ir.metadata_props, pairs)
    made.remembers = pairs
    return made


def _at_fixed_lengths(source: TorchModel, shapes: Mapping[str, object]) -> TorchModel:
    """The module at the shapes that are asked for, where each is one of fixed lengths: its code may count by them.

    Raises ConversionError where the module itself does not run on them.
    """
    lengths = {f.name: tuple(f.shape or ()) for f in source.signature.inputs}
    check_names(shapes, list(lengths))
    read = {name: shapes_of_rank(name, asked, lengths[name]) for name, asked in shapes.items()}
    if any(len(options) != 1 or any(low != high for low, high in options[0]) for options in read.values()):
        return source
    fixed = {name: tuple(low for low, _ in options[0]) for name, options in read.items()}
    try:
        return source.at_lengths(fixed)
    except CoreproofError as error:
        raise ConversionError(
            "the module does not run on the shapes that are asked for",
            where=error.where or source.name,
            expected="; ".join(map(str, source.signature.inputs)),
            found=f"{', '.join(f'{n} of shape {list(shape)}' for n, shape in fixed.items())}: {error.found or error.problem}",
            fix="ask for shapes that forward takes, of all inputs that have a length in common",
        ) from error


def _free_dimensions(source: Model, shapes: Mapping[str, object]) -> dict[str, dict[int, str]]:
    """The dimensions that a PyTorch model has to be traced with as free: those asked for as a range, or as another length.

    Dimensions of one axis that have one length and are asked for alike are one: the lengths of ids and of their mask.
    """
    lengths = {f.name: tuple(f.shape or ()) for f in source.signature.inputs}
    check_names(shapes, list(lengths))
    free: dict[str, dict[int, str]] = {name: {} for name in lengths}
    # axis, length and what was asked -> the name that such a dimension has got
    named: dict[object, str] = {}
    for name, asked in shapes.items():
        for axis, options in enumerate(zip(*shapes_of_rank(name, asked, lengths[name]), strict=True)):
            length = lengths[name][axis]
            if set(options) != {(length, length)}:
                said = next((o.name for o in options if isinstance(o, NamedRange)), None)
                key: object = (axis, length, options) if said is None else said
                # the first dimension is the batch, which inputs that nobody asked about share
                called = said or ("batch" if axis == 0 and not named else f"free_{len(named)}")
                low = min(*(o[0] for o in options), length)
                free[name][axis] = named.setdefault(key, free_name(called, low))
    first = next((name for name, axes in free.items() if 0 in axes), None)
    if first is not None:
        # inputs of another first length have a batch of their own, and stay as they are
        for name in set(lengths) - set(shapes):
            if lengths[name][:1] == lengths[first][:1]:
                free[name][0] = free[first][0]
    return {name: axes for name, axes in free.items() if axes}
