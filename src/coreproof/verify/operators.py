"""What operators of all formats have in common for verification: how each passes an error on, and which fuse."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from coreproof.model.graph import Node

Family = Literal["move", "linear", "average", "norm", "add", "bounded", "exponential", "elementwise"]
"""How an operator passes an error on.

- "move": values are moved or chosen among, nothing is computed (reshape, concat, relu, max pooling);
- "linear": sums of products with weights or between values (convolution, matrix product);
- "average": sums over many values (mean, average pooling);
- "norm": centring and division by a deviation (batch, layer, instance normalisation);
- "add": sum or difference, where scales can cancel;
- "bounded": slopes of 1/4 at most (sigmoid, hard-sigmoid);
- "exponential": the absolute error becomes a relative one (exp, softmax);
- "elementwise": everything else: products, quotients, and what passes through zero like them (tanh, gelu, silu).
"""

STEPS = frozenset(("round", "floor", "ceil", "quantize", "quantizelinear", "rint"))
"""Operators (by ``stem``) whose results are whole numbers of steps: what arrives within its error of an edge is a step off."""

_FAMILIES: dict[Family, str] = {
    "move": """reshape reshapestatic reshapelike flatten flatten2d flattento2d view unsafeview permute transpose squeeze
        unsqueeze expanddims expand concat concatnd cat slice slicebyindex slicebysize slicestatic slicedynamic split
        splitnd chunk unbind stack tile repeat gather gathernd gatherelements gatheralongaxis select index indexselect
        narrow identity alias clone contiguous copy detach pad constantpad constantpadnd reflectionpad2d
        replicationpad2d padding depthtospace spacetodepth pixelshuffle pixelunshuffle reorganizedata relu relu6
        hardtanh clip clamp clampmin threshold maxpool maxpool2d maxpool2dwithindices globalmaxpool reducemax
        reducemin amax amin max min maximum minimum abs neg sign floor ceil round where nonzero scatternd scatter
        slicescatter selectscatter getitem dropout upsamplenearest2d upsamplenearestneighbor resizenearestneighbor
        topk reverse flip roll crop lift liftfreshcopy tocopy size shape constantofshape fill""",
    "linear": """conv conv1d conv2d conv3d convolution convtranspose convtransposed deconvolution matmul gemm linear mm
        bmm addmm baddbmm einsum innerproduct batchedmatmul scaleddotproductattention sdpa attention
        scaleddotproductflashattention scaleddotproductflashattentionforcpu scaleddotproductattentionmath
        lstm gru rnn unidirectionallstm bidirectionallstm simplerecurrent""",
    "average": """reducemean mean meandim reducesum sum sumdimintlist averagepool avgpool avgpool2d globalaveragepool
        adaptiveavgpool2d pooling reducel1 reducel2 reducesumsquare reducelogsumexp resize upsample resizebilinear
        upsamplebilinear upsamplebilinear2d upsamplebicubic2d cumsum""",
    "norm": """batchnormalization batchnorm nativebatchnorm nativebatchnormlegitnotraining layernormalization layernorm
        nativelayernorm instancenormalization instancenorm groupnorm groupnormalization nativegroupnorm
        rmsnormalization l2norm l2normalize lpnormalization mvn""",
    "add": "add addnd sub rsub subtract bias",
    "bounded": "sigmoid hardsigmoid sigmoidhard",
    "exponential": "exp softmax softmaxnd exp2 sinh cosh pow log",
}
_FAMILY_OF: dict[str, Family] = {name: family for family, names in _FAMILIES.items() for name in names.split()}

_STEMS: dict[str, str] = {
    "convolution": "conv", "conv2d": "conv", "conv1d": "conv", "conv3d": "conv", "gemm": "linear", "addmm": "linear",
    "innerproduct": "linear", "matmul": "linear", "mm": "linear", "bmm": "linear", "batchedmatmul": "linear",
    "batchnorm": "norm", "batchnormalization": "norm", "nativebatchnormlegitnotraining": "norm",
    "nativebatchnorm": "norm", "layernormalization": "layernorm", "nativelayernorm": "layernorm",
    "maxpool2d": "maxpool", "maxpool2dwithindices": "maxpool", "averagepool": "avgpool", "avgpool2d": "avgpool",
    "concat": "cat", "concatnd": "cat", "addnd": "add", "multiply": "mul",
    "softmaxnd": "softmax", "hardtanh": "clip", "clamp": "clip", "relu6": "clip",
    "globalaveragepool": "mean", "reducemean": "mean", "adaptiveavgpool2d": "mean", "meandim": "mean",
}  # fmt: skip


@lru_cache(4096)
def plain(operator: str) -> str:
    """``aten.batch_norm.default``, ``BatchNormalization`` and ``batch_norm`` without their house's spelling."""
    base = operator.removeprefix("aten.").split(".", 1)[0]
    name = re.sub(r"[^a-z0-9]", "", base.lower()).removesuffix("layer")
    return name.removesuffix("broadcastable") or name


def family(operator: str) -> Family:
    """How this operator passes an error on; "elementwise" where it is not known."""
    return _FAMILY_OF.get(plain(operator), "elementwise")


def stem(operator: str) -> str:
    """One word for the same operation in every format ("conv", "linear", "norm", ...)."""
    name = plain(operator)
    return _STEMS.get(name, name)


INTERPOLATES = frozenset(
    ["resize", "upsample", "resizebilinear", "upsamplebilinear", "upsamplebilinear2d", "upsamplebicubic2d"]
)
_INTERPOLATION = 10
"""Roundings in a number interpolated along two axes: along each two weights, two products and their sum."""


def terms(node: Node, inputs: tuple[int | None, ...], output: int | None) -> int:
    """How many products or values one result of ``node`` sums up; 1 where it sums nothing.

    ``inputs`` and ``output`` are element counts where known.
    """
    kind = family(node.operator)
    shapes = [shape for _, shape in node.parameters.values() if shape]
    if kind == "linear":
        if shapes:
            largest = max(shapes, key=_count)
            if len(largest) >= 3:
                return max(1, _count(largest) // max(1, largest[0]))
            if len(largest) == 1:
                return max(1, _count(largest) // max(1, int(node.attributes.get("outputChannels", 1) or 1)))
            return max(largest)
        return 256
    if plain(node.operator) in INTERPOLATES:
        return _INTERPOLATION
    if kind in ("average", "norm"):
        known = [n for n in inputs if n]
        if known and output:
            return max(1, known[0] // output)
    return 1


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
