"""Detectors as pipelines: a network whose last nodes give a row a box, and Core ML's non-maximum suppression behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.detection_form import DetectionForm
from coreproof.errors import ConversionError, InputError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import FeatureTypes_pb2, Model_pb2
from coreproof.model.onnx.model import OnnxModel, value_shape

CONFIDENCE, COORDINATES = "confidence", "coordinates"
"""What the pipeline gives: [boxes, classes] and [boxes, 4], which are centre, width and height as shares of the picture."""
RAW = (f"raw_{CONFIDENCE}", f"raw_{COORDINATES}")
"""The same of every box, between the network and the suppression."""
THRESHOLDS = ("iouThreshold", "confidenceThreshold")
"""The optional inputs of the pipeline."""


def ends_in_rows(model: OnnxModel, form: DetectionForm, labels: Sequence[str] | None = None) -> OnnxModel:
    """A copy of ``model`` whose outputs are ``RAW``, made of those that ``form`` names.

    Raises InputError where there are no such outputs, and ConversionError where they do not hold what the form says.
    """
    graph = model.ir.clone()
    made = _Rows(graph, model.name, form)
    if form.raw:
        scores, boxes = made.of_raw()
    else:
        scores, boxes = made.scores(form.scores), made.boxes(form.boxes)
    classes = made.classes
    if labels is not None and classes is not None and len(labels) != classes:
        raise ConversionError(
            "the labels do not fit the classes of the detector",
            where=model.name,
            expected=f"{classes} labels, one a class",
            found=f"{len(labels)} labels",
            fix="a form with an objectness is yolov5, one without it yolov8; a class of nothing is said with background=first",
        )
    made.end_in(dict(zip(RAW, (scores, boxes), strict=True)))
    whole = OnnxModel(graph, name=model.name, feeding=model.feeding)
    whole.notes = model.notes
    return whole


class _Rows:
    """Adds nodes to a graph, of operators that are the same in every opset from 7 on."""

    def __init__(self, model: ir.Model, name: str, form: DetectionForm) -> None:
        self.graph, self.name, self.form = model.graph, name, form
        self.classes: int | None = None
        self.count = 0

    def of_raw(self) -> tuple[ir.Value, ir.Value]:
        """The scores and boxes of one output that holds both, a box a column (v8) or a row (v5, with an objectness)."""
        candidates = [v for v in self.graph.outputs if len(value_shape(v) or ()) == 3]
        value = self._output(self.form.output) if self.form.output else candidates[0] if len(candidates) == 1 else None
        if value is None:
            raise ConversionError(
                "which output holds the boxes is not known",
                where=self.name,
                expected="one output of three dimensions, or :output=NAME",
                found=", ".join(f"{v.name} {list(value_shape(v) or ())}" for v in self.graph.outputs),
            )
        lengths = value_shape(value) or ()
        across, along = (lengths[1], lengths[2]) if len(lengths) == 3 else (None, None)
        # a detector has thousands of boxes and tens of numbers for each: the wrong form shows in which is longer
        if isinstance(across, int) and isinstance(along, int) and (across > along) == self.form.columns:
            other = "yolov5 has a box a row" if self.form.columns else "yolov8 has a box a column"
            raise self._misfit(value, f"more boxes than numbers a box ({other})")
        rows, columns = self._rows(value)
        # four numbers of the box, and in v5 how sure the network is that there is any object
        first = 5 if self.form.raw == "yolov5" else 4
        if columns <= first:
            raise self._misfit(value, f"at least {first + 1} numbers a box")
        self.classes = columns - first
        scores = self._columns(rows, range(first, columns))
        if first == 5:
            # v5 gives the class given an object: its probability is the product of the two
            scores = self._node("Mul", [scores, self._columns(rows, [4])])
        return scores, self._shares(self._columns(rows, range(4)))

    def scores(self, name: str) -> ir.Value:
        """[boxes, classes] of an output that holds scores."""
        value = self._output(name)
        rows, columns = self._rows(value, is_scores=True)
        if self.form.activation == "sigmoid":
            rows = self._node("Sigmoid", [rows])
        elif self.form.activation == "softmax":
            rows = self._node("Softmax", [rows], axis=1)
        kept = {"first": range(1, columns), "last": range(columns - 1)}.get(self.form.background, range(columns))
        if not kept:
            raise self._misfit(value, "a class beside the background")
        self.classes = len(kept)
        return rows if len(kept) == columns else self._columns(rows, kept)

    def boxes(self, name: str) -> ir.Value:
        """[boxes, 4] of an output that holds boxes."""
        value = self._output(name)
        rows, columns = self._rows(value)
        if columns != 4:
            raise self._misfit(value, "4 numbers a box")
        return self._shares(self._columns(rows, self.form.places))

    def _shares(self, boxes: ir.Value) -> ir.Value:
        """Centre, width and height as shares of the picture's."""
        form = self.form
        if form.order != "xywh":
            low, high = self._columns(boxes, [0, 1]), self._columns(boxes, [2, 3])
            # NonMaximumSuppression.proto takes centre and size alone
            middle = self._node("Mul", [self._node("Add", [low, high]), self._constant(np.float32(0.5))])
            boxes = self._node("Concat", [middle, self._node("Sub", [high, low])], axis=1)
        if form.pixels:
            width, height = self._picture()
            # rounded once: a quotient of float32 numbers would be rounded again for each box
            share = np.array([1 / width, 1 / height, 1 / width, 1 / height], np.float64).astype(np.float32)
            boxes = self._node("Mul", [boxes, self._constant(share)])
        return boxes

    def _rows(self, value: ir.Value, *, is_scores: bool = False) -> tuple[ir.Value, int]:
        """A row a box in float32, and how many numbers it has."""
        shape = value_shape(value)
        # a pipeline sees one picture at a time, so that a batch can be nothing but 1
        if shape is None or not 1 < len(shape) < 5 or (shape[0] not in (1, None) and len(shape) > 2):
            raise self._misfit(value, "[1, boxes, numbers] or [boxes, numbers]")
        flat = self._node("Cast", [value], to=int(ir.DataType.FLOAT))
        if self.form.columns:
            if len(shape) != 3:
                raise self._misfit(value, "[1, numbers, boxes]")
            # v8 has a box a column; suppression reads rows
            flat, columns = self._node("Transpose", [flat], perm=[0, 2, 1]), shape[1]
        elif is_scores and len(shape) == 2 and shape[0] == 1 and self._one_class(shape):
            columns = 1
        else:
            columns = shape[-1]
        if not isinstance(columns, int) or columns < 1:
            raise self._misfit(value, "a known number of numbers a box")
        return self._node("Reshape", [flat, self._constant(np.array([-1, columns], np.int64))]), columns

    def _one_class(self, shape: Sequence[object]) -> bool:
        """Whether scores [1, boxes] are those of one class: there are as many boxes."""
        boxes = value_shape(self._output(self.form.boxes)) or ()
        return len(boxes) == 3 and boxes[1] == shape[1]

    def _picture(self) -> tuple[int, int]:
        """Width and height of what the network sees."""
        # until IR version 4 weights are listed among the inputs as well
        taken = [value_shape(v) for v in self.graph.inputs if v.name not in self.graph.initializers]
        sizes = [shape[2:] for shape in taken if shape is not None and len(shape) == 4 and shape[1] in (1, 3)]
        if len(sizes) == 1 and all(isinstance(side, int) for side in sizes[0]):
            return int(sizes[0][1] or 0), int(sizes[0][0] or 0)
        raise ConversionError(
            "boxes in pixels become shares of a picture whose size is not known",
            where=self.name,
            expected="one input [1, 3, height, width] of a fixed size",
            found=", ".join(str(list(shape or ())) for shape in taken),
            fix="export the detector for one size",
        )

    def _output(self, name: str) -> ir.Value:
        found = next((v for v in self.graph.outputs if v.name == name), None)
        if found is None:
            raise InputError(
                f"there is no output {name!r}",
                where=self.name,
                expected=", ".join(f"{v.name} {list(value_shape(v) or ())}" for v in self.graph.outputs),
                found=name,
            )
        return found

    def _misfit(self, value: ir.Value, expected: str) -> ConversionError:
        return ConversionError(
            f"the output {value.name!r} does not hold what {self.form.text} says",
            where=self.name,
            expected=expected,
            found=f"{list(value_shape(value) or ())}",
        )

    def _columns(self, rows: ir.Value, places: Sequence[int]) -> ir.Value:
        return self._node("Gather", [rows, self._constant(np.array(list(places), np.int64))], axis=1)

    def _constant(self, array: np.ndarray | np.generic) -> ir.Value:
        self.count += 1
        tensor = ir.tensor(np.asarray(array), name=f"detection_constant_{self.count}")
        value = ir.Value(
            name=tensor.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy())
        )
        self.graph.register_initializer(value)
        return value

    def _node(self, operator: str, inputs: Sequence[ir.Value], **attributes: int | list[int]) -> ir.Value:
        self.count += 1
        node = ir.node(operator, list(inputs), attributes, name=f"detection_{operator}_{self.count}")
        node.outputs[0].name = f"detection_{self.count}"
        self.graph.append(node)
        return node.outputs[0]

    def end_in(self, outputs: dict[str, ir.Value]) -> None:
        """Makes these the outputs of the graph, and drops what only others needed."""
        self.graph.outputs.clear()
        for name, value in outputs.items():
            # an output needs a name of its own, and the value may be an initializer or an input
            last = self._node("Identity", [value])
            last.name, last.type = name, ir.TensorType(ir.DataType.FLOAT)
            self.graph.outputs.append(last)


def with_suppression(network: CoreMLModel, form: DetectionForm, labels: Sequence[str] | None = None) -> CoreMLModel:
    """A pipeline of ``network``, whose outputs are ``RAW``, and Core ML's non-maximum suppression.

    Its outputs are ``confidence`` and ``coordinates``; ``iouThreshold`` and ``confidenceThreshold`` are optional inputs whose
    defaults are those of ``form``. The weights stay in the network's folder.
    """
    stage = Model_pb2.Model()
    stage.CopyFrom(network.spec)
    classes, boxes = _lengths(stage)
    suppression = _suppression(stage, form, labels, classes, boxes)
    spec = Model_pb2.Model(specificationVersion=stage.specificationVersion)
    spec.pipeline.models.extend([stage, suppression])
    spec.pipeline.names.extend(["network", "suppression"])
    # the first two are the raw outputs, which stay inside; behind them come the thresholds
    spec.description.input.extend([*stage.description.input, *suppression.description.input[2:]])
    spec.description.output.extend(suppression.description.output)
    spec.description.metadata.CopyFrom(stage.description.metadata)
    made = network.with_spec(spec)
    made.notes = network.notes
    made.compression = network.compression
    return made


def _lengths(stage: Model_pb2.Model) -> tuple[int, int]:
    """How many classes and boxes the network gives."""
    shapes = {feature.name: list(feature.type.multiArrayType.shape) for feature in stage.description.output}
    scores = shapes.get(RAW[0], [])
    if len(scores) != 2:
        raise ConversionError(
            "the number of boxes is not known", expected="a fixed size of the input", found=str(shapes)
        )
    return scores[1], scores[0]


def _suppression(
    stage: Model_pb2.Model, form: DetectionForm, labels: Sequence[str] | None, classes: int, boxes: int
) -> Model_pb2.Model:
    spec = Model_pb2.Model(specificationVersion=stage.specificationVersion)
    held = spec.nonMaximumSuppression
    held.confidenceInputFeatureName, held.coordinatesInputFeatureName = RAW
    held.confidenceOutputFeatureName, held.coordinatesOutputFeatureName = CONFIDENCE, COORDINATES
    held.iouThresholdInputFeatureName, held.confidenceThresholdInputFeatureName = THRESHOLDS
    held.iouThreshold, held.confidenceThreshold = form.iou, form.confidence
    held.pickTop.perClass = form.per_class
    if labels is not None:
        held.stringClassLabels.vector.extend(labels)
    else:
        held.int64ClassLabels.vector.extend(range(classes))
    made = {feature.name: feature for feature in stage.description.output}
    for name in RAW:
        spec.description.input.add().CopyFrom(made[name])
    for name, said in zip(
        THRESHOLDS,
        (
            f"How far boxes may overlap: 0 to 1 (default {form.iou:g})",
            f"How sure a box has to be: 0 to 1 (default {form.confidence:g})",
        ),
        strict=True,
    ):
        feature = spec.description.input.add(name=name, shortDescription=said)
        feature.type.doubleType.SetInParent()
        # left out, they are what the stage itself stores
        feature.type.isOptional = True
    words = ("How sure each box is of each class", "Boxes: centre x, y, width, height as shares of the picture")
    for name, width, said in zip((CONFIDENCE, COORDINATES), (classes, 4), words, strict=True):
        feature = spec.description.output.add(name=name, shortDescription=said)
        array = feature.type.multiArrayType
        array.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT32
        # as many rows as boxes survive, from none on; -1 is no upper bound
        array.shapeRange.sizeRanges.add(lowerBound=0, upperBound=-1)
        array.shapeRange.sizeRanges.add(lowerBound=width, upperBound=width)
    return spec
