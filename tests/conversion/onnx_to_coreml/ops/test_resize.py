"""Resize and Upsample against PyTorch's interpolate, in every mode that it has, and by hand where it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch.nn import functional

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.ops.sampling import Sampling, nearest_indices
from coreproof.errors import ConversionError
from coreproof.runtime.open import session
from tests.build import graph_model, node_model, onnx_proto
from tests.conversion.onnx_to_coreml.one_node import check_node, convert_node

PICTURE = np.random.default_rng(0).normal(size=(2, 3, 6, 5)).astype(np.float32)
NOTHING = np.zeros(0, np.float32)


def interpolated(x: np.ndarray, size: tuple[int, ...], mode: str, **how: Any) -> np.ndarray:
    return functional.interpolate(torch.from_numpy(x), size=size, mode=mode, **how).numpy()


def sizes_of(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.array([*x.shape[: x.ndim - len(size)], *size], np.int64)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("size", [(12, 10), (9, 13), (3, 2)])
@pytest.mark.parametrize(
    ("mode", "transformation", "how"),
    [
        ("bilinear", "half_pixel", {"align_corners": False}),
        ("bilinear", "pytorch_half_pixel", {"align_corners": False}),
        ("bilinear", "align_corners", {"align_corners": True}),
        ("bicubic", "half_pixel", {"align_corners": False}),
        ("bicubic", "align_corners", {"align_corners": True}),
    ],
)
def test_weighted_modes_are_those_of_pytorch(mode: str, transformation: str, how: Any, size: tuple[int, int]) -> None:
    check_node(
        "Resize",
        {"x": PICTURE},
        interpolated(PICTURE, size, mode, **how),
        {"sizes": sizes_of(PICTURE, size)},
        order=["x", "", "", "sizes"],
        mode="linear" if mode == "bilinear" else "cubic",
        coordinate_transformation_mode=transformation,
    )


@pytest.mark.parametrize(("opset", "size"), [(11, (12, 10)), (13, (9, 13)), (18, (3, 2)), (19, (3, 10))])
def test_nearest_of_pytorch_is_asymmetric_and_floor(size: tuple[int, int], opset: int) -> None:
    check_node(
        "Resize",
        {"x": PICTURE},
        interpolated(PICTURE, size, "nearest"),
        {"roi": NOTHING, "scales": NOTHING, "sizes": sizes_of(PICTURE, size)},
        opset=opset,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def test_nearest_exact_is_half_pixel() -> None:
    check_node(
        "Resize",
        {"x": PICTURE},
        interpolated(PICTURE, (9, 13), "nearest-exact"),
        {"sizes": sizes_of(PICTURE, (9, 13))},
        order=["x", "", "", "sizes"],
        mode="nearest",
        nearest_mode="round_prefer_ceil",
    )


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_weights_all_that_a_small_picture_covers(mode: str) -> None:
    large = np.random.default_rng(1).normal(size=(1, 2, 17, 23)).astype(np.float32)
    check_node(
        "Resize",
        {"x": large},
        interpolated(large, (7, 5), mode, antialias=True),
        {"sizes": np.array([7, 5], np.int64)},
        order=["x", "", "", "sizes"],
        opset=18,
        axes=[2, 3],
        mode="linear" if mode == "bilinear" else "cubic",
        antialias=1,
        exclude_outside=1,
        cubic_coeff_a=-0.5,
    )


def test_three_axes_are_resized_as_trilinear() -> None:
    volume = np.random.default_rng(2).normal(size=(1, 2, 4, 3, 5)).astype(np.float32)
    check_node(
        "Resize",
        {"x": volume},
        interpolated(volume, (7, 6, 4), "trilinear", align_corners=False),
        {"sizes": sizes_of(volume, (7, 6, 4))},
        order=["x", "", "", "sizes"],
        mode="linear",
    )


def test_one_axis_of_a_sequence() -> None:
    sequence = np.random.default_rng(3).normal(size=(2, 3, 8)).astype(np.float32)
    check_node(
        "Resize",
        {"x": sequence},
        interpolated(sequence, (13,), "linear", align_corners=False),
        {"sizes": sizes_of(sequence, (13,))},
        order=["x", "", "", "sizes"],
        mode="linear",
    )


def test_scales_are_kept_where_the_length_is_rounded_down() -> None:
    expected = functional.interpolate(torch.from_numpy(PICTURE), scale_factor=(1.3, 1.7), mode="bilinear").numpy()
    check_node(
        "Resize",
        {"x": PICTURE},
        expected,
        {"scales": np.array([1, 1, 1.3, 1.7], np.float32)},
        order=["x", "", "scales"],
        mode="linear",
    )


@pytest.mark.parametrize(("policy", "asked"), [("not_larger", (12, 11)), ("not_smaller", (12, 9))])
def test_the_aspect_ratio_is_kept(policy: str, asked: tuple[int, int]) -> None:
    check_node(
        "Resize",
        {"x": PICTURE},
        interpolated(PICTURE, (12, 10), "bilinear", align_corners=False),
        {"sizes": np.array(asked, np.int64)},
        order=["x", "", "", "sizes"],
        opset=19,
        axes=[2, 3],
        mode="linear",
        keep_aspect_ratio_policy=policy,
    )


@pytest.mark.parametrize(("opset", "operator"), [(9, "Upsample"), (10, "Resize")])
def test_early_forms_take_scales(opset: int, operator: str) -> None:
    check_node(
        operator,
        {"x": PICTURE},
        PICTURE.repeat(2, axis=2).repeat(3, axis=3),
        {"scales": np.array([1, 1, 2, 3], np.float32)},
        opset=opset,
        mode="nearest",
    )


def test_upsample_7_has_its_scales_as_an_attribute() -> None:
    check_node("Upsample", {"x": PICTURE}, PICTURE.repeat(2, axis=2), opset=7, scales=[1.0, 1.0, 2.0, 1.0])


@pytest.mark.parametrize(("mode", "torch_mode"), [("nearest", "nearest"), ("linear", "bilinear")])
def test_height_and_width_may_be_free_for_whole_scales(mode: str, torch_mode: str) -> None:
    how: dict[str, Any] = {} if mode == "nearest" else {"align_corners": False}
    check_node(
        "Resize",
        {"x": PICTURE},
        interpolated(PICTURE, (12, 10), torch_mode, **how),
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        order=["x", "", "scales"],
        mode=mode,
        free={"x": [2, 3]},
        shapes={"x": [2, 3, (2, 16), (2, 16)]},
    )


FREE_WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nearest": ({"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, {}),
    "nearest-exact": ({"nearest_mode": "round_prefer_ceil"}, {}),
    "bilinear": ({"mode": "linear"}, {"align_corners": False}),
    "bilinear, corners": (
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {"align_corners": True},
    ),
    "bicubic": ({"mode": "cubic"}, {"align_corners": False}),
    "bicubic, corners": ({"mode": "cubic", "coordinate_transformation_mode": "align_corners"}, {"align_corners": True}),
    "bilinear, smooth": (
        {"mode": "linear", "antialias": 1, "exclude_outside": 1},
        {"align_corners": False, "antialias": True},
    ),
    "bicubic, smooth": (
        {"mode": "cubic", "antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5},
        {"align_corners": False, "antialias": True},
    ),
}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("way", FREE_WAYS)
def test_free_lengths_become_sizes_that_are_given_and_sizes_that_are_computed(way: str) -> None:
    attributes, torch_attributes = FREE_WAYS[way]
    mode = way.split(",")[0]
    other = np.zeros((2, 3, 9, 4), np.float32)
    text = " ".join(f"{k} = {f'{chr(34)}{v}{chr(34)}' if isinstance(v, str) else v}," for k, v in attributes.items())
    model = graph_model(
        f"""net (float[2, 3, h, w] x, float[2, 3, k, m] like) => (float[2, 3, k, m] y, float[2, 3, 7, v] z) {{
            size = Shape (like)
            y = Resize <{text[:-1]}> (x, , , size)
            own = Shape <start = 3> (x)
            mixed = Concat <axis = 0> (head, own)
            z = Resize <{text[:-1]}> (x, , , mixed)
        }}""",
        opset=18,
        head=np.array([2, 3, 7]),
    )
    free = [2, 3, (1, 16), (1, 16)]
    made = convert_node(model, "mlprogram", "iOS15", shapes={"x": free, "like": free})
    with session(made) as running:
        for size in ((9, 4), (3, 13), (1, 1), (6, 5)):
            found = running.run({"x": PICTURE, "like": np.resize(other, (2, 3, *size))})
            np.testing.assert_allclose(found["y"], interpolated(PICTURE, size, mode, **torch_attributes), atol=2e-5)
            np.testing.assert_allclose(
                found["z"], interpolated(PICTURE, (7, PICTURE.shape[3]), mode, **torch_attributes), atol=2e-5
            )


@pytest.mark.sweep(1, each="way")
@pytest.mark.parametrize("scale", [0.5, 1.5, 2.5, 0.7])
@pytest.mark.parametrize("way", ["nearest", "bilinear", "bicubic"])
def test_free_lengths_are_scaled_by_fractions(way: str, scale: float) -> None:
    attributes, torch_attributes = FREE_WAYS[way]
    picture = np.random.default_rng(3).normal(size=(1, 2, 10, 7)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(picture), scale_factor=scale, mode=way, **torch_attributes)
    for free in ({"free": {"x": [2, 3]}, "shapes": {"x": [1, 2, (2, 16), (2, 16)]}}, {}):
        check_node(
            "Resize",
            {"x": picture},
            expected.numpy(),
            {"scales": np.array([1, 1, scale, scale], np.float32)},
            order=["x", "", "scales"],
            targets=[("mlprogram", "iOS15")],
            atol=2e-5,
            **attributes,
            **free,
        )


def test_a_region_of_a_free_axis_is_refused_with_the_node() -> None:
    model = node_model(
        "Resize",
        {"x": PICTURE},
        {"roi": np.array([0, 0, 0, 0, 1, 1, 0.5, 1], np.float32), "sizes": sizes_of(PICTURE, (9, 9))},
        order=["x", "roi", "", "sizes"],
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        free={"x": [2]},
    )
    with pytest.raises(ConversionError, match="free length"):
        convert_node(model, "mlprogram", None, shapes={"x": [2, 3, (2, 16), 5]})


@pytest.mark.sweep(2)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("mode", "transformation", "pytorch"), [("linear", "half_pixel", "bilinear"), ("nearest", "asymmetric", "nearest")]
)
def test_scales_that_are_computed_while_the_model_runs_say_the_lengths(
    mode: str, transformation: str, pytorch: str, precision: str
) -> None:
    x = PICTURE[:, :, :, :4]
    model = node_model(
        "Resize",
        {"x": x, "scales": np.ones(4, np.float32)},
        order=["x", "", "scales"],
        opset=18,
        mode=mode,
        coordinate_transformation_mode=transformation,
        nearest_mode="floor",
    )
    converted = convert_node(model, "mlprogram", "iOS17", precision=precision)
    with session(converted, "onnxruntime") as running:
        for height, width in ((1.0, 1.0), (2.0, 0.5), (1.3, 2.6)):
            scales = np.array([1, 1, height, width], np.float32)
            got = running.run({"x": x, "scales": scales})["y0"]
            how = {"align_corners": False} if mode == "linear" else {}
            wanted = functional.interpolate(torch.from_numpy(x), scale_factor=(height, width), mode=pytorch, **how)
            # 6 times 1.3 in float16 is less, and one row less would come of 10 times 0.7
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_a_region_is_cut_out_for_lengths_that_are_given() -> None:
    model = node_model(
        "Resize",
        {"x": PICTURE},
        {"roi": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32), "sizes": sizes_of(PICTURE, (3, 5))},
        order=["x", "roi", "", "sizes"],
        opset=13,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )
    with session(convert_node(model, "mlprogram", "iOS15"), "onnxruntime") as running:
        found = running.run({"x": PICTURE})["y0"]
    np.testing.assert_allclose(
        found, interpolated(PICTURE, (3, 5), "bilinear", align_corners=True), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("of", "size"), [((1, 4096), (32, 1)), ((4, 1001), (4, 1002)), ((3000, 2), (1, 2)), ((2, 3), (4, 7))]
)
def test_a_factor_just_above_a_whole_one_is_no_whole_one(of: tuple[int, int], size: tuple[int, int]) -> None:
    """In a NeuralNetwork, coremltools would cut 1 / 4096 to 0, and 1002 / 1001 to 1."""
    x = np.random.default_rng(1).standard_normal((1, 2, *of)).astype(np.float32)
    check_node(
        "Resize",
        {"x": x},
        interpolated(x, size, "bilinear", align_corners=False),
        {"sizes": sizes_of(x, size)},
        order=["x", "", "", "sizes"],
        mode="linear",
        coordinate_transformation_mode="half_pixel",
        rtol=0,
        # PyTorch and ONNX Runtime know the 1,000th place to 2^-14 in float32, and neighbours lie up to 6 apart
        atol=2**-14 * 6,
    )


@pytest.mark.sweep(5)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize(
    "transformation", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"]
)
def test_the_nearest_element_is_the_one_that_onnx_runtime_takes(transformation: str, nearest: str) -> None:
    """Of factors such as 4.8 it is a matter of how places are rounded, and a model must not differ from its source by that."""
    how = {"mode": "nearest", "coordinate_transformation_mode": transformation, "nearest_mode": nearest}
    for by, kind in (("sizes", TensorProto.INT64), ("scales", TensorProto.FLOAT)):
        order = ["x", "", by] if by == "scales" else ["x", "", "", by]
        node = helper.make_node("Resize", order, ["y"], **how)
        model = onnx_proto([node], {"x": ["n"], by: (kind, [1])}, {"y": ["m"]}, opset=19)
        running = onnxruntime.InferenceSession(model.SerializeToString())
        for n in (1, 4, 11, 17, 22, 50, 64):
            tenths = [tenth / 10 for tenth in range(3, 60, 3)]
            for asked in [*range(1, 5 * n, max(n // 6, 1))] if by == "sizes" else [f for f in tenths if int(n * f) > 0]:
                feed = np.array([asked], np.int64 if by == "sizes" else np.float32)
                (expected,) = running.run(None, {"x": np.arange(n, dtype=np.float32), by: feed})
                if (target := len(expected)) == n:
                    continue
                scale = asked / n if by == "sizes" else asked
                found = nearest_indices(n, target, scale, (0.0, 1.0), Sampling("nearest", transformation, nearest))
                np.testing.assert_array_equal(found, expected, err_msg=f"{n}, {by} {asked}")


@pytest.mark.parametrize("free", [False, True])
def test_places_between_two_elements_are_rounded_as_engines_do(free: bool) -> None:
    """NNSmith's seed 150273: 50 to 240, where 120 / 4.8 is 25 exactly, and element 24 in float32."""
    n: Any = "n" if free else 50
    for asked, by in ((np.array([1, 1, 240], np.int64), "sizes"), (np.array([1, 1, 4.8], np.float32), "scales")):
        order = ["x", "", by] if by == "scales" else ["x", "", "", by]
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        node = helper.make_node("Resize", order, ["y"], **how)
        model = onnx_proto([node], {"x": [1, 1, n]}, {"y": [1, 1, "m"]}, {by: asked}, opset=18)
        x = np.random.default_rng(0).normal(size=(1, 1, 50)).astype(np.float32)
        (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        shapes = {"x": [1, 1, (10, 60)]} if free else None
        made = cp.convert(cp.load(model), "mlprogram", precision="fp32", shapes=shapes)
        with session(made) as running:
            (found,) = running.run({"x": x}).values()
        np.testing.assert_array_equal(found, expected)


def test_a_scale_that_changes_no_length_hands_on_the_picture() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 4, 4)).astype(np.float32)
    scales = np.array([1, 1, 1.2, 1.2], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        check_node("Resize", {"x": x}, x, {"scales": scales}, order=["x", "", "scales"], mode=mode)
