"""ONNX -> Core ML: an ML Program, or a NeuralNetwork where its layers can express the model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coremltools_import import import_coremltools
from coreproof.conversion.onnx_to_coreml.class_outputs import is_classical, named_anew, take_classes
from coreproof.conversion.onnx_to_coreml.compress import compress_weights
from coreproof.conversion.onnx_to_coreml.compression_scheme import Scheme
from coreproof.conversion.onnx_to_coreml.export import network_spec, program_spec
from coreproof.conversion.onnx_to_coreml.features import (
    SPECIFICATIONS,
    FlexibleShape,
    ImageInput,
    check_images,
    flexible_shape,
)
from coreproof.conversion.onnx_to_coreml.made_values import check_made
from coreproof.conversion.onnx_to_coreml.node_form import said
from coreproof.conversion.onnx_to_coreml.old_forms import unsaid
from coreproof.conversion.onnx_to_coreml.packed_nodes import holds_blocks
from coreproof.conversion.onnx_to_coreml.prepare import prepare
from coreproof.conversion.onnx_to_coreml.schemas import check_against_schemas
from coreproof.conversion.onnx_to_coreml.sequence_outputs import about_sequences
from coreproof.conversion.onnx_to_coreml.states import plan_states
from coreproof.conversion.onnx_to_coreml.streamed_weights import WeightStream
from coreproof.conversion.onnx_to_coreml.text_stages import scores_instead, with_text_stages
from coreproof.conversion.onnx_to_coreml.texts import Texts, number_texts
from coreproof.conversion.shapes import check_names, read_shape
from coreproof.errors import ConversionError, CoreproofError, InputError, UnsupportedOperatorsError
from coreproof.model.arguments import PRECISIONS, one_of
from coreproof.model.collector import left_in_circles, only_what_is_new
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.noted_labels import note_labels, note_untrained
from coreproof.model.files.label_file import repeated
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.noted_feeding import note_feeding
from coreproof.model.onnx.model import OnnxModel, value_shape
from coreproof.model.onnx.shapes import afford_values
from coreproof.model.onnx.types import in_words, is_tensor

__all__ = ["ImageInput", "onnx_to_coreml"]

_LONGEST = 2**31 - 1
"""Lengths are int32 in MIL."""


def onnx_to_coreml(
    model: OnnxModel,
    to: Literal["mlprogram", "neuralnetwork"] = "mlprogram",
    *,
    precision: Literal["fp16", "fp32", "float16", "float32"] | None = None,
    target: str | None = None,
    images: Mapping[str, ImageInput] | None = None,
    labels: Sequence[str] | Sequence[int] | None = None,
    predicted_label: str = "classLabel",
    softmax: bool = False,
    shapes: Mapping[str, object] | None = None,
    keep_fp32: Collection[str] = (),
    states: Mapping[str, str] | None = None,
    compress: Scheme | None = None,
    keep_size: Collection[str] = (),
    stages: bool = True,
) -> CoreMLModel:
    """Converts an ONNX model of any opset from 7 on.

    ``precision`` is the arithmetic of an ML Program, float16 where nothing is said; a NeuralNetwork always computes in float32
    here. ``target`` is the oldest system that must run it. ``images`` makes inputs into pictures. ``labels`` makes a
    classifier of the first output (without them the source's own are noted in the metadata); with ``softmax`` its scores are
    turned into probabilities first. ``shapes`` frees dimensions: a shape with (low, high) ranges, or a list of shapes.
    ``keep_fp32`` names ONNX values (or operators) that stay
    in float32 in a float16 program. ``states`` are inputs that bring what the model
    remembers, each with the output that holds it after a run: states of an ML Program from iOS 18 on, which it is made for
    where no ``target`` is said, and inputs and outputs below. ``compress`` is how weights of an ML Program are compressed, save
    those that ``keep_size`` names: layers, "layer:weight", or operators. ``stages``: what no multi-array holds, texts and
    dictionaries, is made in stages around the network; without them classes stay scores, and texts that are fed are refused.

    The result's ``provenance`` maps its values to the ONNX values that they equal. Raises UnsupportedOperatorsError and
    ConversionError, each naming every node concerned.
    """
    from coreproof.conversion.onnx_to_coreml.program import InputPlan, ProgramBuilder

    to = one_of(to, ("mlprogram", "neuralnetwork"), "to")
    precision = None if precision is None else one_of(precision, PRECISIONS, "precision")
    keep_fp32 = _wide_names(model, keep_fp32)
    remembered = plan_states(states or {}, model.ir.graph, to, target)
    version = remembered.version
    graph = _prepared(model, joined=to == "mlprogram", kept=keep_fp32)
    # before classes are taken off: the operators that tell go with them
    classical = is_classical(graph.graph)
    classes, named = take_classes(graph, model.name, asked=labels is not None, stages=stages)
    texts = number_texts(graph, model.name) if stages else _without_texts(graph, model.name)
    about_classes: tuple[str, ...] = ()
    _refuse_beside_texts(model.name, bool(texts or named), compress is not None, labels is not None, bool(states))
    # blocks and schemes may each ask for a newer system than the default
    version, about_weights = _for_blocks(graph, version, is_said=target is not None)
    if compress is not None:
        if to == "neuralnetwork":
            raise ConversionError(
                f"{compress} is for an ML Program",
                where=model.name,
                found="a NeuralNetwork",
                fix="--to mlprogram",
            )
        version, said_of_scheme = compress.version_for(version, is_said=target is not None)
        about_weights += said_of_scheme
    is_network = to == "neuralnetwork"
    if precision is None and classical:
        precision = "fp32"
        about_classes = (
            *about_classes,
            "computed in float32: its estimators compare what is fed with what they learnt",
        )
    # a NeuralNetwork's weights and values are float32 here
    half = not is_network and (precision or "fp16") == "fp16"
    pictures = dict(images or {})
    planned, notes = _planned(model.name, graph, shapes or {}, is_network=is_network)
    # fed as arrays of one, and read as numbers inside
    numbers = {v.name for v in graph.graph.inputs if value_shape(v) == ()}
    check_images(pictures, planned)
    plans = [
        InputPlan(
            name,
            tuple(None if i in shape.free else d for i, d in enumerate(shape.default)),
            "float16"
            if name in remembered.closed
            else _io_dtype(graph, name, half=half and version >= 16 and name not in pictures),
            *(pictures[name].affine(shape.default[1]) if name in pictures else (None, None)),
            is_number=name in numbers,
        )
        for name, shape in planned.items()
    ]
    coremltools = import_coremltools()
    with only_what_is_new(), _weights_written(None if is_network else version) as (scratch, weights):
        builder = ProgramBuilder(
            graph,
            source=model.name,
            coremltools=coremltools,
            # coremltools' builder has no operations newer than those of iOS 18
            target=13 if is_network else min(version, 18),
            dtype=np.float16 if half else np.float32,
            is_network=is_network,
            keep_fp32=_made_by(graph, keep_fp32),
            half_outputs=frozenset(remembered.closed.values()),
            weights=weights,
        )
        built = builder.build(plans, [v.name or "" for v in graph.graph.outputs])
        if compress is not None:
            about_weights += compress_weights(built.program, compress, keep_size, built.provenance, graph.graph)
        classifier = classes if labels is None else named_anew(classes, labels, predicted_label, softmax)
        if weights is None:
            spec = network_spec(built, planned, pictures, classifier, version)
            left_in_circles(spec.ByteSize())  # coremltools' program, which holds the weights too
        else:
            spec = program_spec(built, planned, pictures, classifier, version, weights)
    remembered.apply(spec, built, model.name)
    note_untrained(spec.description.metadata.userDefined, model.untrained)
    note_feeding(spec.description.metadata.userDefined, model.feeding)
    made = CoreMLModel(
        spec,
        name=model.name,
        folder=None if scratch is None else Path(scratch.name),
        notes=(
            *model.notes,
            *unsaid(model.ir),
            *about_sequences(model.ir.graph),
            *about_classes,
            *notes,
            *remembered.notes,
            *about_weights,
            *built.notes,
            *_about_repeated(labels),
        ),
        keep_alive=scratch,
        provenance=built.provenance,
    )
    if labels is None:
        # no classifier holds them then: a later verb finds what the source called its classes
        note_labels(spec.description.metadata.userDefined, model.signature.labels or None)
    if stages:
        return with_text_stages(made, texts, named, built.names.identifier_for) if texts or named else made
    made.notes = (*made.notes, *(scores_instead(of, built.names.identifier_for) for of in named))
    return made


def _without_texts(graph: ir.Model, source: str) -> Texts:
    """Nothing, for a network alone. Raises ConversionError for a graph that is fed texts or dictionaries."""
    texts = number_texts(graph, source)
    if texts:
        raise ConversionError(
            "texts and dictionaries that a model is fed have no place in a network alone",
            where=source,
            expected="inputs of numbers",
            found=", ".join([*(entry.name for entry in texts.inputs), *(entry.name for entry in texts.dictionaries)]),
            fix="stay with Core ML, whose pipelines take them, or make numbers of them in the app and convert what comes behind",
        )
    return texts


@contextmanager
def _weights_written(version: int | None) -> Iterator[tuple[TemporaryFolder | None, WeightStream | None]]:
    """Where the weights of an ML Program go, which keeps the folder; of one that is not finished nothing stays."""
    if version is None:  # a NeuralNetwork holds them itself
        yield None, None
        return
    scratch = TemporaryFolder()
    weights = WeightStream(Path(scratch.name), SPECIFICATIONS[version])
    try:
        yield scratch, weights
    except BaseException:
        weights.discard()
        scratch.cleanup()
        raise


def _about_repeated(labels: Sequence[str] | Sequence[int] | None) -> Iterator[str]:
    for label, numbers in repeated(labels or ()).items():
        places = ", ".join(map(str, numbers))
        yield f"the label {label!r} stands for classes {places}: the dictionary of probabilities holds one of them"


def _refuse_beside_texts(source: str, has_stages: bool, compressed: bool, labelled: bool, remembers: bool) -> None:
    """What goes with one network alone, and not with a pipeline around it."""
    asked = "compressed weights" if compressed else "labels" if labelled else "states" if remembers else None
    if has_stages and asked is not None:
        raise ConversionError(
            f"a model that takes or gives texts becomes a pipeline, which goes without {asked}",
            where=source,
            fix="leave that out, or cut the model where its numbers are: coreproof edit, extract",
        )


def _made_by(graph: ir.Model, names: Collection[str]) -> set[str]:
    """Values by their names, or by the names of the operators that make them."""
    wanted = set(names)
    return wanted | {v.name or "" for n in graph.graph.all_nodes() if n.op_type in wanted for v in n.outputs}


def _wide_names(model: OnnxModel, keep_fp32: Collection[str]) -> list[str]:
    """The names to be kept wide, one or several. Raises InputError for those that no value and no operator of the model has."""
    if not isinstance(keep_fp32, Iterable):
        raise InputError("keep_fp32 is a name or several, of ONNX values or operators", found=repr(keep_fp32))
    given = [keep_fp32] if isinstance(keep_fp32, str) else list(keep_fp32)
    made = {v.name for n in model.ir.graph.all_nodes() for v in n.outputs if v.name}
    made |= {n.op_type for n in model.ir.graph.all_nodes()}
    if unknown := [name for name in given if name not in made]:
        close = [match for name in unknown for match in get_close_matches(str(name), made, 2)]
        raise InputError(
            "keep_fp32 names what no node of the model makes or is",
            where=model.name,
            expected=", as ".join(["names of ONNX values or operators", *([", ".join(close)] if close else [])]),
            found=", ".join(map(str, unknown)),
            fix="`coreproof verify MODEL --half` names those that need it",
        )
    return given


def _for_blocks(graph: ir.Model, version: int, *, is_said: bool) -> tuple[int, list[str]]:
    """The version that a program is made for, newer where only that holds the weights as they are, and what to say of it."""
    # below iOS 15 there are no ML Programs, and from 18 on blocks are held anyway
    if not 15 <= version < 18 or not holds_blocks(graph.graph):
        return version, []
    if is_said:
        return version, [
            f"weights in blocks become floats for iOS {version}; target iOS18 holds them packed as they are"
        ]
    return 18, ["made for iOS 18, the first that holds weights in blocks: an older target makes floats of them"]


def _planned(
    source: str, graph: ir.Model, shapes: Mapping[str, object], *, is_network: bool
) -> tuple[dict[str, FlexibleShape], list[str]]:
    """The shape with which each input enters, and what there is to say about it."""
    taken = [v for v in graph.graph.inputs if v.name not in graph.graph.initializers]
    if is_network and not taken:
        raise ConversionError(
            "a NeuralNetwork takes at least one input",
            where=source,
            found="a model that is fed nothing",
            fix="convert it to an ML Program",
        )
    check_names(shapes, [v.name or "" for v in taken])
    _refuse_structured(source, graph, taken)
    planned: dict[str, FlexibleShape] = {}
    notes: list[str] = []
    for value in taken:
        name = value.name or ""
        declared = value_shape(value)
        if declared is None and name in shapes:
            declared = (None,) * len(read_shape(name, shapes[name])[0])
        if declared is None:
            raise ConversionError(
                f"input {name!r} has no shape", where=source, fix=f"give it one: --shape {name}=1x3x224x224, or shapes="
            )
        if not declared:
            # MLMultiArray has a dimension at least
            declared = (1,)
            notes.append(
                f"input {name!r} is a single number; it is fed as an array of one, the least a Core ML input can be"
            )
        if len(declared) > 5:
            raise ConversionError(
                f"input {name!r} has rank {len(declared)}",
                where=source,
                expected="at most 5 dimensions, which is what a Core ML multi-array has",
                fix="make it a constant, or reshape it inside the model",
            )
        asked = shapes.get(name)
        if not value_shape(value) and isinstance(asked, Sequence) and not asked:
            asked = None  # () is the shape of a single number
        planned[name], said = flexible_shape(name, declared, asked)
        notes += said
        if max(planned[name].default) > _LONGEST:
            raise ConversionError(
                f"input {name!r} is longer than a Core ML array can be",
                where=source,
                expected=f"lengths of at most {_LONGEST}",
                found=str(list(planned[name].default)),
            )
    return planned, notes


def _refuse_structured(name: str, graph: ir.Model, taken: Sequence[ir.Value]) -> None:
    """Dictionaries and sequences do not go into Core ML; the operators that read them are named first."""
    from coreproof.conversion.onnx_to_coreml.program import unsupported

    others = [value for value in taken if not is_tensor(value.type)]
    if not others:
        return
    # the reason is mostly an operator, and its name says more than the input's type
    missing = unsupported(graph.graph, dict(graph.opset_imports))
    if missing:
        raise UnsupportedOperatorsError(name, missing, "Core ML")
    raise ConversionError(
        "a Core ML model made of ONNX takes arrays",
        where=name,
        found="; ".join(f"{value.name}: {in_words(value.type)}" for value in others),
        fix="cut the model behind what reads them: coreproof edit, extract",
    )


def _prepared(model: OnnxModel, *, joined: bool, kept: Collection[str]) -> ir.Model:
    """The graph to be lowered. ConversionError where its nodes are not what its operators need."""
    check_against_schemas(model.ir, model.name)
    check_made(model.ir, model.name)
    try:
        graph = prepare(model.ir, joined=joined, kept=kept)
    except CoreproofError:
        raise
    except Exception as error:  # onnx-ir's passes and the merging of weights, on a file that anybody may have made
        raise ConversionError(
            "the graph cannot be made ready to be converted",
            where=model.name,
            found=said(error) or None,
            fix="`coreproof doctor` may say which node; where the model is sound, please report it with the model",
        ) from error
    afford_values(graph, model.name)
    return graph


def _io_dtype(graph: ir.Model, name: str, *, half: bool) -> str:
    """The dtype in which an input enters: float16 where the ONNX input has it and ``half`` says that the target offers it."""
    dtype = next(v.dtype for v in graph.graph.inputs if v.name == name)
    if dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return "float16" if half and dtype == ir.DataType.FLOAT16 else "float32"
    # of whole numbers int32 is what multi-arrays of every version hold
    if dtype == ir.DataType.BOOL or (dtype is not None and dtype.is_integer() and dtype.bitwidth >= 8):
        return "int32"
    raise ConversionError(
        "Core ML has no input of this type" if dtype is not None else "an input has no type",
        where=f"input {name!r}",
        expected="floats, whole numbers of 8 to 64 bits, or booleans",
        found=None if dtype is None else str(dtype),
        fix="give it a type in the source's file"
        if dtype is None
        else "cast it in the app, and cut the model behind it",
    )
