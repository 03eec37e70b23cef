"""A converted model answers as its source at both ends of its declared lengths; what is baked in is named."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from coreproof.feeding.ends import Ends
from coreproof.model.features import Feature, ShapeRange
from tests.build import graph_model

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Baked(torch.nn.Module):
    """Right up to 16 rows: longer ones are cut at the length that the export saw."""

    def forward(self, x: Any) -> Any:
        return x.sum(1) / 16


class Honest(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x.sum(1) / x.shape[1]


class Limited(torch.nn.Module):
    """Has places for 16 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.places = torch.nn.Embedding(16, 4)

    def forward(self, x: Any) -> Any:
        return x + self.places(torch.arange(x.shape[1]))


def converted(module: Any, shapes: Any, precision: Any = "fp32", **more: Any) -> Any:
    torch.manual_seed(0)
    return cp.convert((module.eval(), (torch.ones(1, 16, 4),)), "mlprogram", precision=precision, shapes=shapes, **more)


def test_both_ends_are_run_and_told() -> None:
    made = converted(Honest(), {"x": [1, (4, 32), 4]})
    assert "at x 1x32x4 likewise" in made.notes[-1]


@pytest.mark.thorough
def test_a_high_end_that_the_source_does_not_take_is_refused() -> None:
    with pytest.raises(
        ConversionError, match=r"at the high end of the declared lengths \(x 1x64x4\) the source itself"
    ):
        converted(Limited(), {"x": [1, (4, 64), 4]})
    assert converted(Limited(), {"x": [1, (4, 16), 4]})


def test_a_length_that_is_baked_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.conversion.convert import convert as translate

    def baked(source: Any, *arguments: Any, **more: Any) -> Any:
        """What an exporter would make that takes the example's length for a number."""
        from coreproof.model.torch.model import TorchModel

        return translate(TorchModel(Baked(), source.example_inputs, name="net"), *arguments, **more)

    monkeypatch.setattr(import_module("coreproof.precision.converted"), "translate", baked)
    with pytest.raises(ConversionError) as told:
        converted(Honest(), {"x": [1, (16, 64), 4]})
    assert "at the high end of the declared lengths (x 1x64x4)" in str(told.value)
    assert "baked in from the example: 16 (axis 1 of 'x'; a constant of" in str(told.value)


def test_a_high_end_beyond_the_memory_budget_is_reduced_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "8MB")
    made = converted(Honest(), {"x": [1, (4, 4_000_000), 4]})
    assert "the high end of the declared lengths was reduced, for memory" in made.notes[-1]


@pytest.mark.thorough
def test_verify_holds_the_module_against_both_ends() -> None:
    from coreproof.model.torch.model import TorchModel

    def source(module: Any) -> TorchModel:
        return TorchModel(module.eval(), (torch.ones(1, 16, 4),), name="net")

    made = converted(Honest(), {"x": [1, (4, 32), 4]})
    found = cp.verify(source(Honest()), made)
    assert found, found.summary()
    assert "outputs also at x 1x4x4 and x 1x32x4" in found.inputs
    wrong = cp.verify(source(Baked()), made)
    assert not wrong
    assert [row.how for row in wrong.rows if not row.agrees] == ["output"]


class Sorted(torch.nn.Module):
    """Places among equal numbers, which PyTorch names in another order where there are more than 16 of them."""

    def forward(self, x: Any) -> Any:
        return x.sort(1, descending=True)


def test_places_among_equal_numbers_are_no_difference_of_lengths() -> None:
    made = converted(Sorted(), {"x": [1, (4, 64), 4]})
    assert "at x 1x64x4 likewise" in made.notes[-1]


class Branching(torch.nn.Module):
    """Decides by the length."""

    def forward(self, x: Any) -> Any:
        return x.sum(1) * (2.0 if x.shape[1] > 20 else 1.0)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("length", [4, 40])
def test_fixed_lengths_that_the_example_does_not_have_are_traced_at_these_and_checked(length: int) -> None:
    made = converted(Branching(), {"x": [1, length, 4]})
    assert made.notes[-1].startswith("checked: ran once")
    fed = torch.rand(1, length, 4)
    (got,) = cp.session(made).run({"x": fed.numpy()}).values()
    assert got == pytest.approx(Branching()(fed).numpy(), rel=1e-5)
    found = cp.verify((Branching(), (torch.ones(1, 16, 4),)), made)
    assert found, found.summary()


def test_fixed_lengths_on_which_the_module_does_not_run_are_refused_with_what_it_says() -> None:
    with pytest.raises(
        ConversionError, match=r"(?s)does not run on the shapes that are asked for.*x of shape \[1, 64, 4\]"
    ):
        converted(Limited(), {"x": [1, 64, 4]})


def test_the_batch_of_inputs_that_nobody_asked_about_follows() -> None:
    class Two(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b.sum(1, keepdim=True)

    source = (Two(), (torch.ones(1, 3), torch.ones(1, 5)))
    made = cp.convert(source, "mlprogram", precision="fp32", shapes={"a": [4, 3]})
    assert [f.shape for f in made.signature.inputs] == [(4, 3), (4, 5)]


class Counted(torch.nn.Module):
    """A loop that its length counts: no exporter leaves it free."""

    def forward(self, x: Any) -> Any:
        total = x[:, 0]
        for row in range(1, x.shape[1]):
            total = torch.where(total > 0, total + x[:, row], total * 2)
        return total


@pytest.mark.thorough
def test_a_loop_over_a_free_length_is_refused_by_the_inputs_axis() -> None:
    with pytest.raises(ConversionError, match=r"(?s)goes by the numbers of lengths.*axis 1 of 'x' at the example's 16"):
        converted(Counted(), {"x": [1, (4, 64), 4]})
    assert converted(Counted(), {"x": [1, 5, 4]}).notes[-1].startswith("checked: ran once")


class Folded(torch.nn.Module):
    """Windows of a picture, and the pictures again: of a batch of 1 a trace takes the windows of one for all."""

    def forward(self, x: Any) -> Any:
        b, h, w, c = x.shape
        cut = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 4, c)
        return (cut * 2).view(-1, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, h, w, c) + x


@pytest.mark.thorough
def test_a_free_batch_may_be_one_in_the_example() -> None:
    torch.manual_seed(0)
    module = (Folded().eval(), (torch.ones(1, 4, 4, 2),))
    made = cp.convert(module, "mlprogram", precision="fp32", shapes={"x": [(1, 4), 4, 4, 2]})
    assert "at x 4x4x4x2 likewise" in made.notes[-1]


class Spectrum(torch.nn.Module):
    """Of a periodic signal: a few lines, and between them what rounding leaves of them."""

    def forward(self, x: Any) -> Any:
        return torch.stft(x[:, :, 0].repeat(1, 20), 32, 8, window=torch.hann_window(32), return_complex=True).abs()


@pytest.mark.thorough
def test_what_rounding_leaves_between_the_lines_of_a_spectrum_is_no_difference() -> None:
    torch.manual_seed(0)
    module = (Spectrum().eval(), (torch.randn(1, 12, 8),))
    assert cp.convert(module, "mlprogram", precision="fp32", shapes={"x": [1, (2, 32), 8]})


class Even(torch.nn.Module):
    """Another number for each other length."""

    def forward(self, x: Any) -> Any:
        return x.sum(1) * (1.0 if x.shape[1] % 2 == 0 else 2.0)


class Padded(torch.nn.Module):
    """Fills up to whole windows, as window attention does."""

    def forward(self, x: Any) -> Any:
        if left := x.shape[1] % 4:
            x = torch.nn.functional.pad(x, (0, 0, 0, 4 - left))
        return x.reshape(1, -1, 4, 4).mean(2).sum(1)


class InTheMiddle(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean(1) if 10 < x.shape[1] < 30 else x.sum(1)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "length", "shapes"),
    [
        (Even(), 16, [1, (4, 32), 4]),
        (Even(), 16, [(1, 4, 4), (1, 7, 4), (1, 16, 4)]),
        (Padded(), 16, [1, (4, 32), 4]),
        (InTheMiddle(), 8, [1, (4, 40), 4]),
    ],
    ids=str,
)
def test_a_module_that_goes_by_its_length_between_the_ends_is_refused(module: Any, length: int, shapes: Any) -> None:
    source = (module.eval(), (torch.ones(1, length, 4),))
    with pytest.raises(ConversionError, match="between the ends of the declared lengths"):
        cp.convert(source, "mlprogram", precision="fp32", shapes={"x": shapes})
    made = cp.convert(source, "mlprogram", precision="fp32", shapes={"x": shapes}, check=False)
    if not isinstance(module, Padded):  # which does not run there at all
        assert not cp.verify(source, made)


class Halved(torch.nn.Module):
    """Takes even lengths alone."""

    def forward(self, x: Any) -> Any:
        torch._check(x.shape[1] % 2 == 0)
        return x.reshape(1, x.shape[1] // 2, 2, 4).sum(2)


@pytest.mark.thorough
def test_lengths_between_that_the_source_does_not_take_are_left_out_and_said() -> None:
    made = converted(Halved(), {"x": [1, (4, 32), 4]})
    assert "the source itself does not run at x 1x5x4" in made.notes[-1]
    assert "at x 1x32x4 likewise, and at 1 shape between" in made.notes[-1]
    assert cp.verify((Halved(), (torch.ones(1, 16, 4),)), made)


class Attending(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.layer = torch.nn.Linear(4, 12)

    def forward(self, x: Any) -> Any:
        query, key, value = self.layer(x).chunk(3, -1)
        return (query @ key.transpose(1, 2)).softmax(-1) @ value


@pytest.mark.thorough
def test_a_float16_program_of_a_free_length_becomes_onnx() -> None:
    """What its float16 rounds at the high end is no length that is baked in."""
    program = cp.convert((Attending().eval(), (torch.ones(1, 16, 4),)), "mlprogram", shapes={"x": [1, (2, 16), 4]})
    assert cp.convert(program, "onnx").notes[-1].startswith("checked: ran once on drawn input")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("example", "shapes"),
    [((2, 12), [(1, 12), (8, 12)]), ((1, 16), "1x20..32"), ((1, 40), "1x20..32"), ((1, 16), "1x16..32")],
    ids=str,
)
def test_verify_takes_lengths_that_the_model_declares_where_the_example_has_others(example: Any, shapes: Any) -> None:
    class Mean(torch.nn.Module):
        def forward(self, rows: Any) -> Any:
            return rows.sum(1) / rows.shape[1]

    source = cp.Source(Mean().eval(), (torch.ones(*example),))
    made = cp.convert(source, "mlprogram", precision="fp32", shapes={"rows": shapes})
    found = cp.verify(source, made)
    assert found, found.summary()
    assert not cp.verify(cp.Source(torch.nn.Softmax(-1), (torch.ones(*example),)), made, seed=1)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_an_onnx_model_is_held_between_the_ends_too(to: Any) -> None:
    """One that is another at length 18 alone, the middle of 4 to 32."""
    honest = graph_model("""g (float[1, n, 4] x) => (float[1, 4] y) {
        axes = Constant<value_ints=[1]>()
        y = ReduceSum<keepdims=0>(x, axes)
    }""")
    other = graph_model("""g (float[1, n, 4] x) => (float[1, 4] y) {
        axes = Constant<value_ints=[1]>()
        sum = ReduceSum<keepdims=0>(x, axes)
        length = Shape<start=1, end=2>(x)
        middle = Constant<value_ints=[18]>()
        is_it = Equal(length, middle)
        one = Constant<value_floats=[1.0]>()
        two = Constant<value_floats=[2.0]>()
        factor = Where(is_it, two, one)
        y = Mul(sum, factor)
    }""")
    precision = {"precision": "fp32"} if to == "mlprogram" else {}
    made = {
        name: cp.convert(model, to, shapes={"x": [1, (4, 32), 4]}, **precision)
        for name, model in (("honest", honest), ("other", other))
    }
    found = cp.verify(honest, made["honest"])
    assert found, found.summary()
    assert "outputs also at x 1x5x4 and x 1x18x4 and x 1x19x4" in found.inputs
    assert not cp.verify(honest, made["other"])
    assert not cp.verify(other, made["honest"])


def test_of_a_list_each_shape_is_tried_also_one_as_large_as_the_largest() -> None:
    listed = ((1, 2, 4), (1, 4, 8), (1, 8, 4), (1, 4, 2))
    made = Feature("x", "tensor", "float32", listed[0], enumerated=listed)
    free = Feature("x", "tensor", "float32", None)
    ends = Ends([(free, made)], [])
    tried = [ends.shapes("low"), ends.shapes("high"), *ends.between()]
    assert sorted(shapes["x"] for shapes in tried) == sorted(listed)


class Turning(torch.nn.Module):
    """The angle of a direction that is nearly along the axis: the arc cosine of nearly 1 takes float16's last step far."""

    def forward(self, x: Any) -> Any:
        flat = torch.cat([x[..., :1] + 8, 0.2 * x[..., 1:]], -1)
        return torch.acos(torch.nn.functional.normalize(flat, dim=-1)[..., 0]) * 5


@pytest.mark.thorough
def test_what_rounding_explains_at_other_lengths_is_no_difference() -> None:
    made = converted(Turning(), {"x": [1, (4, 32), 4]}, "fp16")
    assert "likewise" in made.notes[-1], made.notes


class Piled(torch.nn.Module):
    """A sum of squares that leaves float16 where it is long."""

    def forward(self, x: Any) -> Any:
        high = torch.where(x > 0, 60.0, 59.0)
        return (high * high).cumsum(1)[:, -1]


@pytest.mark.thorough
def test_what_float16_does_at_other_lengths_is_called_so_and_not_baked_in() -> None:
    with pytest.raises(ConversionError) as told:
        converted(Piled(), {"x": [1, (4, 64), 4]}, "fp16")
    assert "float16 makes another answer" in str(told.value)
    assert "baked in" not in str(told.value)
    assert "likewise" in converted(Piled(), {"x": [1, (4, 64), 4]}).notes[-1]


class Cut(torch.nn.Module):
    """The larger half stays, as of a sampling what is likely does: among zeros in the middle a sort decides which."""

    def forward(self, x: Any) -> Any:
        rows = x.flatten(1)
        order = rows.argsort(descending=True)
        behind = (torch.arange(rows.shape[1]) >= rows.shape[1] // 2).expand(order.shape[0], -1)
        return rows.masked_fill(torch.zeros_like(behind).scatter(1, order, behind), -1.0)


@pytest.mark.thorough
def test_which_of_equal_numbers_is_cut_off_hangs_on_no_length() -> None:
    made = converted(Cut(), {"x": [(1, 6), 16, 4]})
    assert "likewise" in made.notes[-1]


class Upright(torch.nn.Module):
    """Lays pictures that are higher than wide on their side: at both ends of a range they are square."""

    def forward(self, x: Any) -> Any:
        return (x.transpose(2, 3) * 2 if x.shape[2] > x.shape[3] else x).mean((2, 3))


class Large(torch.nn.Module):
    """Takes large pictures another way than small ones."""

    def forward(self, x: Any) -> Any:
        return x.mean((2, 3)) * (2.0 if x.shape[2] > 50 else 3.0)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("images", [False, True], ids=["numbers", "pictures"])
@pytest.mark.parametrize("module", [Upright(), Large()], ids=["upright", "large"])
@pytest.mark.parametrize(
    "shapes", [[1, 3, (32, 96), (32, 96)], [(1, 3, 32, 32), (1, 3, 64, 48), (1, 3, 96, 96)]], ids=["range", "list"]
)
def test_what_hangs_on_the_form_of_a_picture_is_refused(module: Any, shapes: Any, images: bool) -> None:
    pictures = {"x": cp.ImageInput(scale=1 / 255)} if images else None
    for to in ("mlprogram", "neuralnetwork"):
        with pytest.raises(ConversionError, match="declared lengths"):
            cp.convert(module, to, example=(torch.rand(1, 3, 32, 32),), shapes={"x": shapes}, images=pictures)


def test_all_sizes_of_a_picture_are_tried_and_told() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3, 2), torch.nn.AdaptiveAvgPool2d(1))
    made = cp.convert(
        module, "mlprogram", example=(torch.rand(1, 3, 32, 32),), shapes={"input": [1, 3, (32, 96), (32, 64)]}, images=True
        , feeding=cp.Feeding(size=(32, 32), scale=1 / 255),
    )  # fmt: skip
    assert str(made.signature.inputs[0]) == "input: RGB image 32..64x32..96"
    assert "at input 1x3x96x64 likewise, and at 5 shapes between" in made.notes[-1]


def test_two_free_lengths_are_tried_one_short_and_one_long() -> None:
    one = Feature("x", "tensor", "float32", (1, 4, 4), ranges=(ShapeRange(1, 1), ShapeRange(4, 8), ShapeRange(4, 9)))
    ends = Ends([(Feature("x", "tensor", "float32", None), one)], [])
    assert [shapes["x"] for shapes in ends.corners()] == [(1, 8, 4), (1, 4, 9)]
