"""How errors are predicted to travel, against errors that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.model.graph import Graph, Node, Value
from coreproof.verification.arriving import carried_error, rest_of_error
from coreproof.verification.crossed import most_crossed
from coreproof.verification.error_model import ErrorModel
from coreproof.verification.error_state import measure

POOL = Node("MaxPool", "pool", ("x",), ("y",))


def pooled(values: np.ndarray) -> np.ndarray:
    """The largest of each four."""
    return values.reshape(-1, 4).max(axis=1)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.5])
def test_max_pooling_errs_as_the_loud_values_do(sigma: float) -> None:
    # a sum's error follows the sizes of its terms: as loud a place, as large the error
    rng = np.random.default_rng(0)
    exact = np.exp(sigma * rng.normal(size=40_000)) * np.abs(rng.normal(size=40_000))
    wrong = exact + 1e-5 * np.abs(exact) * rng.normal(size=exact.size)
    read = measure(exact)._replace(error=float(np.sqrt(np.mean((wrong - exact) ** 2))))
    result = measure(pooled(exact))
    found = float(np.sqrt(np.mean((pooled(wrong) - pooled(exact)) ** 2)))
    predicted = carried_error(POOL, [read], result)
    assert 0.8 * predicted < found < 1.2 * predicted


def test_a_choice_never_errs_more_than_if_all_the_error_were_chosen() -> None:
    exact = np.zeros(4_000)
    exact[::4] = 1.0
    read = measure(exact)._replace(error=1e-3)
    assert carried_error(POOL, [read], measure(pooled(exact))) == pytest.approx(2e-3)
    assert carried_error(POOL, [read], measure(exact)) == 1e-3
    assert carried_error(POOL, [read], measure(exact[1::4])) == 1e-3


@pytest.mark.parametrize(
    ("expected", "elements", "least", "most"),
    [(0.18, 47040, 4, 9), (1e-9, 1000, 0, 0), (0.0, 10, 0, 0), (400.0, 10**6, 1600, 1900)],
)
def test_so_many_edges_may_be_crossed(expected: float, elements: int, least: int, most: int) -> None:
    """Less than one expected element does not say that none may be off; a thousand expected ones say it well."""
    error = (expected / elements) ** 0.5
    count = most_crossed(error, elements) ** 2 * elements
    assert least - 0.01 <= count <= most + 0.01


def test_errors_whose_squares_no_number_holds_are_predicted_all_the_same() -> None:
    known = measure(np.ones(4))._replace(error=1e200)
    assert rest_of_error(known) == pytest.approx(1e200)
    assert rest_of_error(known._replace(shared=6e199)) == pytest.approx(8e199)
    assert most_crossed(1e200, 10) == np.inf


def test_an_output_that_is_judged_after_what_is_made_from_it_has_the_tolerance_of_its_place() -> None:
    """A normalisation makes values of one size of small ones: taken to be small, its rounding seems too large."""
    rng = np.random.default_rng(0)
    x = (0.01 * rng.normal(size=(1, 4, 32))).astype(np.float32)
    y = ((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)).astype(np.float32)
    z = np.tanh(y)
    graph = Graph(
        "norm",
        (Node("LayerNormalization", "norm", ("x",), ("y",)), Node("Tanh", "tanh", ("y",), ("z",))),
        ("x",),
        ("y", "z"),
        {name: Value(name, "float32", (1, 4, 32)) for name in "xyz"},
    )

    def asked(order: str) -> float | None:
        model = ErrorModel(graph, {})
        model.feed("x", x)
        found = {name: model.tolerance(name, {"y": y, "z": z}[name]) for name in order}
        return found["y"].typical

    assert asked("zy") == asked("yz")
    # what rounding the result alone makes it differ by, has to lie within
    typical = asked("zy")
    assert typical is not None
    assert typical >= 2.0**-23


@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("operator", ["ReduceSum", "reduce_sum"])
def test_a_sum_errs_as_what_it_sums_up_where_that_cancels_too(operator: str, cancels: bool) -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(4_000, 8)).astype(np.float32)
    if cancels:  # down to a hundredth of what is summed up
        exact[:, 4:] = -exact[:, :4] + 0.01 * exact[:, 4:]
    wrong = exact + 1e-4 * rng.normal(size=exact.shape).astype(np.float32)
    made, off = exact.sum(-1), wrong.sum(-1, dtype=np.float64) - exact.sum(-1, dtype=np.float64)
    values = {"x": Value("x", "float32", exact.shape), "y": Value("y", "float32", made.shape)}
    model = ErrorModel(Graph("sum", (Node(operator, "sum", ("x",), ("y",)),), ("x",), ("y",), values), {})
    model.feed("x", exact, apart=1e-4)
    scale, found = float(np.sqrt(np.mean(made**2))), float(np.sqrt(np.mean(off**2)))
    typical = model.tolerance("y", made).typical
    assert typical is not None
    # twice what is predicted is allowed, and little more: a fault is to be seen
    assert found < typical * scale < 4 * found


@pytest.mark.parametrize("products", [1, 4])
def test_a_product_of_rows_errs_as_its_terms_where_it_cancels(products: int) -> None:
    """The similarity of a text and a picture is one number, and near zero where they have nothing in common."""
    rng = np.random.default_rng(1)
    found, allowed = [], []
    for _ in range(400):
        a, b = (rng.normal(size=(n, 64)).astype(np.float32) for n in (1, products))
        a = a - (a @ b.T) @ b / np.sum(b * b) * (0.95 if products == 1 else 0)  # nearly at right angles
        made = (a @ b.T).astype(np.float32)
        near = [x + 1e-3 * rng.normal(size=x.shape) for x in (a, b)]
        values = {n: Value(n, "float32", x.shape) for n, x in (("x", a), ("w", b), ("y", made))}
        graph = Graph("dot", (Node("dot", "MatMul", ("x", "w"), ("y",)),), ("x", "w"), ("y",), values)
        model = ErrorModel(graph, {})
        model.feed("x", a, apart=1e-3)
        model.feed("w", b, apart=1e-3)
        typical = model.tolerance("y", made).typical
        assert typical is not None
        allowed.append(typical * float(np.sqrt(np.mean(made**2))))
        found.append(float(np.sqrt(np.mean((near[0] @ near[1].T - made) ** 2))))
    # twice of what is predicted: beyond that lie few of so many draws
    assert np.mean(np.array(found) > allowed) < 0.08
    assert np.mean(allowed) < 4 * np.mean(found)


def test_a_copy_may_be_off_by_what_was_accepted_of_a_single_element() -> None:
    """Where a function is steep at few points, these are off by more than the rest of them lets expect."""
    values = {name: Value(name, "float32", (1000,)) for name in ("x", "y", "z")}
    graph = Graph(
        "steep", (Node("Cos", "cos", ("x",), ("y",)), Node("Identity", "copy", ("y",), ("z",))), ("x",), ("z",), values
    )
    exact = np.cos(np.linspace(-3, 3, 1000, dtype=np.float32))
    model = ErrorModel(graph, {"y": "float32", "z": "float32"})
    model.feed("x", np.linspace(-3, 3, 1000, dtype=np.float32), apart=0.2)
    allowed = model.tolerance("y", exact)
    model.accept("y", 0.01, single=allowed.relative)
    behind = model.tolerance("z", exact)
    assert behind.relative == pytest.approx(allowed.relative)
    assert behind.typical is not None
    assert allowed.typical is not None
    assert behind.typical < 0.1 * allowed.typical
