"""What a NeuralNetwork's features rest on inside: preprocessing of pictures, the mapping of arrays and pictures, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod

from coreproof.editing.editors.coreml_interface import BIASES, CoreMLInterface, Feature, Lengths, colour_of, is_image
from coreproof.editing.editors.document import CoreMLDocument
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import network as layered
from coreproof.validation.names import score_blob

_FLEXIBLE_SINCE = 3
"""The first specification version (iOS 12) that has flexible shapes."""


class NetworkDocument(CoreMLDocument):
    """A private copy of a NeuralNetwork."""

    def __init__(self, model: CoreMLModel) -> None:
        super().__init__(model)
        self.description = self.spec.description
        self.provenance = dict(model.provenance)

    @property
    def network(self) -> layered.Network:
        return layered.main(self.spec)

    def as_model(self) -> CoreMLModel:
        made = self.origin.with_spec(self.spec)
        made.provenance = dict(self.provenance)
        return made

    def blob_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the blobs, as far as they can be followed from layer to layer."""
        from coreproof.validation.validate import inspect

        return inspect(self.model).shapes

    def require_version(self, version: int) -> None:
        """Raises the specification version where a type came with a later one."""
        self.spec.specificationVersion = max(self.spec.specificationVersion, version)


class NetworkInterface(CoreMLInterface):
    """Preprocessing is stored beside the layers; the rank in which arrays and pictures enter is one for all of them."""

    keeps_rank = False
    scaling_layer = "scale layer"

    document: NetworkDocument

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Without a copy of the layers, which features never change, and their weights."""
        spec, kind = self.document.spec, self.document.origin.kind
        kept = Model_pb2.Model(specificationVersion=spec.specificationVersion)
        kept.description.CopyFrom(spec.description)
        getattr(kept, kind).SetInParent()
        _copy_outline(self.document.network, layered.main(kept))
        try:
            yield
        except EditError:
            spec.specificationVersion = kept.specificationVersion
            spec.description.CopyFrom(kept.description)
            _copy_outline(layered.main(kept), self.document.network)
            raise
        finally:
            self.document.changed()

    # arrays

    def shape_of(self, value: str) -> Lengths:
        return self.document.blob_shapes().get(value, ())

    def bring_out(self, value: str) -> tuple[str, Lengths]:
        """A declared output keeps its dtype; a new one is float32, as every blob is."""
        known = next((f.type.multiArrayType.dataType for f in self.document.description.output if f.name == value), 0)
        dtype = next((name for name, number in classic.ARRAY_DTYPES.items() if number == known), "float32")
        return dtype, layered.feature_shape(self.document.spec, self.document.blob_shapes().get(value, ()))

    def carried_dtype(self, dtype: str) -> str:
        if dtype not in self.array_dtypes:
            raise EditError(f"an input cannot be {dtype}", expected=", ".join(self.array_dtypes), found=dtype)
        return dtype

    def check_array(self, name: str, lengths: Sequence[int]) -> None:
        if not layered.keeps_rank(self.document.spec) and len(lengths) not in (1, 3, 5):
            raise EditError(
                f"input {name!r} has a shape that its network cannot read",
                where=self.document.where,
                expected="[C], [C, H, W] or [Seq, Batch, C, H, W] (the network maps arrays to rank 5)",
                found=list(lengths),
            )

    def feed(self, value: str, lengths: Sequence[int], dtype: str, carried: str) -> None:
        self.become_dtype(value, True, dtype)

    def become_dtype(self, name: str, is_input: bool, dtype: str) -> None:
        """Arrays of any dtype enter and leave a network; float16 came with iOS 16."""
        self.document.require_version(classic.FLOAT16_FEATURES_SINCE if dtype == "float16" else 1)

    def require_no_label(self, name: str) -> None:
        is_classifier = self.document.spec.WhichOneof("Type") == "neuralNetworkClassifier"
        if is_classifier and name == self.document.description.predictedFeatureName:
            raise EditError(
                f"output {name!r} is the label that the classifier predicts",
                expected="an output that is not the label",
                found=name,
                fix="a classifier always has its label; other outputs can be added beside it",
            )

    def _drop_preprocessing(self, steps: Sequence[object]) -> None:
        preprocessing = self.document.network.preprocessing
        for place in reversed(range(len(preprocessing))):
            # the very step: two inputs may be preprocessed alike
            if any(preprocessing[place] is step for step in steps):
                del preprocessing[place]

    # pictures

    def _pictures(self) -> list[str]:
        return [f.name for f in self.document.description.input if is_image(f)]

    def picture_of(self, feature: Feature) -> tuple[int, int, int]:
        array, shape = feature.type.multiArrayType, _declared(feature)
        if is_image(feature):
            return shape[0], shape[1], shape[2]
        if not shape:  # outputs may leave it out
            shape = list(layered.feature_shape(self.document.spec, self.document.blob_shapes().get(feature.name, ())))
        if array.WhichOneof("ShapeFlexibility") is not None:
            raise EditError(
                f"{feature.name!r} has a flexible shape",
                fix="reshape it to one size first, and again when it is a picture",
            )
        whole = [1] * (3 - len(shape)) + shape
        if len(shape) < 2 or prod(whole[:-3]) != 1 or whole[-3] not in (1, 3):
            raise EditError(
                f"{feature.name!r} does not have the shape of one picture",
                where=self.document.where,
                expected="[3, height, width] or [1, height, width], with leading ones or without",
                found=shape,
            )
        return whole[-3], whole[-2], whole[-1]

    def become_picture(self, name: str, is_input: bool, before: str | None, colour: str) -> None:
        self.document.require_version(classic.FLOAT16_FEATURES_SINCE if colour == "GRAY_FLOAT16" else 1)
        if before is None:
            if is_input and layered.keeps_rank(self.document.spec):
                self._map_images(name, len(self.find(name)[0].type.multiArrayType.shape))
        elif is_input and before != colour and colour in BIASES:
            # the channels come in another order, and the network's channels keep their numbers
            for step in self._steps(name):
                if step.WhichOneof("preprocessor") == "scaler":
                    step.scaler.redBias, step.scaler.blueBias = step.scaler.blueBias, step.scaler.redBias

    def _map_images(self, name: str, rank: int) -> None:
        """Where arrays keep their rank, pictures must enter with the rank that the layers are used to: 4 or 5."""
        network = self.document.network
        others = [other for other in self._pictures() if other != name]
        mapping = {5: NeuralNetwork_pb2.RANK5_IMAGE_MAPPING, 4: NeuralNetwork_pb2.RANK4_IMAGE_MAPPING}.get(rank)
        if mapping is None or (others and network.imageInputShapeMapping != mapping):
            raise EditError(
                f"the layers behind {name!r} read {rank} dimensions",
                expected="4 (or 5), as pictures have, the same for all pictures",
                found=rank,
                fix="insert a layer that changes the rank (expandDims, squeeze) behind it first",
            )
        network.imageInputShapeMapping = mapping

    def _steps(self, name: str) -> list[NeuralNetwork_pb2.NeuralNetworkPreprocessing]:
        """The preprocessing of one picture; steps without a name belong to every picture."""
        return [s for s in self.document.network.preprocessing if s.featureName in ("", name)]

    def preprocess(self, name: str, colour: str, scale: float | None, bias: Sequence[float] | float | None) -> None:
        """One scaler for the picture in the place of those that it has: Core ML multiplies by its scale, then adds its biases."""
        names = BIASES.get(colour, ("grayBias",))
        given = bias if isinstance(bias, Sequence) else [] if bias is None else [bias]
        numbers = [float(b) for b in given] * (len(names) if len(given) == 1 else 1)
        if bias is not None and len(numbers) != len(names):
            raise EditError(
                "there is one bias for each channel", expected=f"{len(names)} ({colour})", found=len(numbers)
            )
        steps = self._steps(name)
        if len(self._pictures()) > 1 and any(not s.featureName for s in steps):
            raise EditError(
                f"the preprocessing of {name!r} is that of all pictures", expected="preprocessing of its own"
            )
        if any(s.WhichOneof("preprocessor") == "meanImage" for s in steps):
            raise EditError(
                f"{name!r} has a mean image taken away from it",
                expected="a scale and biases",
                fix="make it a tensor first, then a picture again",
            )
        own = steps[0] if steps else self.document.network.preprocessing.add(featureName=name)
        self._drop_preprocessing([step for step in steps[1:] if step.featureName == name])
        if not steps:
            own.scaler.channelScale = 1.0  # the field's own default is 0, which would make every picture black
        if scale is not None:
            own.scaler.channelScale = float(scale)
        for field, number in zip(names, numbers, strict=False):
            setattr(own.scaler, field, number)

    def become_array(self, name: str, is_input: bool) -> tuple[str, Lengths]:
        shape = list(self.picture_of(self.find(name)[0]))
        if is_input:
            shape = [*self._leading_ones(name), *shape]
            alone = self._pictures() == [name]
            self._drop_preprocessing([s for s in self._steps(name) if s.featureName or alone])
        elif layered.keeps_rank(self.document.spec):
            shape = list(self.document.blob_shapes().get(name, shape))
        return "float32", shape

    def _leading_ones(self, name: str) -> list[int]:
        """What an array has in front of [C, H, W], so that it enters with the rank that the picture had."""
        spec, network = self.document.spec, self.document.network
        mapped_to_4 = network.imageInputShapeMapping == NeuralNetwork_pb2.RANK4_IMAGE_MAPPING
        rank = 4 if spec.specificationVersion >= 4 and mapped_to_4 else 5
        if not layered.keeps_rank(spec):
            if rank == 5:
                return []  # [C, H, W] becomes [1, 1, C, H, W], as the picture did
            arrays = [f.name for f in self.document.description.input if f.type.WhichOneof("Type") == "multiArrayType"]
            if arrays:
                raise EditError(
                    f"the layers behind {name!r} read 4 dimensions, and arrays have 5 in this network",
                    where=self.document.where,
                    found=f"other arrays: {', '.join(arrays)}",
                )
            network.arrayInputShapeMapping = NeuralNetwork_pb2.EXACT_ARRAY_MAPPING
        return [1] * (rank - 3)

    # shapes

    @contextmanager
    def resized(self, name: str, lengths: Lengths, *, flexible: bool) -> Iterator[None]:
        """Outputs whose declared shape is what their layers gave them are declared as large as they now are."""
        shapes = self.document.blob_shapes()
        following = [
            f
            for f in self.document.description.output
            if f.name in shapes and [n for n in _declared(f) if n != 1] == [n for n in shapes[f.name][-3:] if n != 1]
        ]
        yield
        if flexible:
            self.document.require_version(_FLEXIBLE_SINCE)
        self.document.changed()
        shapes = self.document.blob_shapes()
        for feature in following:
            blob = shapes.get(feature.name)
            if blob is None:
                continue
            if is_image(feature):
                feature.type.imageType.height, feature.type.imageType.width = blob[-2:]
            else:
                rank = len(feature.type.multiArrayType.shape)
                fits = prod(blob[:-rank]) == 1
                declared = blob[-rank:] if fits else layered.feature_shape(self.document.spec, blob)
                feature.type.multiArrayType.shape[:] = declared

    # labels

    def scores(self) -> tuple[str, int | None] | None:
        if self.document.origin.kind != "neuralNetworkClassifier":
            return None
        blob = score_blob(self.document.model)
        shape = self.document.blob_shapes().get(blob or "")
        return f"blob {blob!r}", None if shape is None else prod(shape)

    def write_labels(self, labels: Sequence[str] | Sequence[int], *, whole: bool) -> bool:
        network = self.document.spec.neuralNetworkClassifier
        whole = whole and network.WhichOneof("ClassLabels") == "int64ClassLabels"
        if whole:
            network.int64ClassLabels.vector[:] = [int(label) for label in labels]
        else:
            network.stringClassLabels.vector[:] = [str(label) for label in labels]
        return whole


def _copy_outline(source: layered.Network, target: layered.Network) -> None:
    """Preprocessing and the mappings, all that features rest on beside the layers."""
    for field in ("preprocessing", "arrayInputShapeMapping", "imageInputShapeMapping"):
        target.ClearField(field)
    target.preprocessing.MergeFrom(source.preprocessing)
    target.arrayInputShapeMapping = source.arrayInputShapeMapping
    target.imageInputShapeMapping = source.imageInputShapeMapping


def _declared(feature: Feature) -> list[int]:
    if is_image(feature):
        image = feature.type.imageType
        return [3 if colour_of(feature) in BIASES else 1, int(image.height), int(image.width)]
    return [int(n) for n in feature.type.multiArrayType.shape]
