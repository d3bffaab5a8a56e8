"""Operations whose slope has no bound: where, in families that share one remedy; and what overflows."""

from __future__ import annotations

ROOTS = frozenset({"sqrt", "rsqrt"})
LOGS = frozenset({"log", "log2", "log10"})
FROM_ZERO = ROOTS | LOGS | {"lgamma", "digamma"}  # singular at 0, from above
ARCS = frozenset({"acos", "arccos", "asin", "arcsin", "atanh", "arctanh"})
WITHIN_ONE = (ARCS - {"arctanh"}) | {"erfinv"}  # singular at ±1, as a record names them
DISTANCES = frozenset(
    {"norm", "vector_norm", "linalg_norm", "linalg_vector_norm", "dist", "cdist", "pairwise_distance"}
)
GROWING = frozenset({"exp", "expm1", "exp2", "cosh", "sinh"})  # overflow in their operand
PRODUCTS = frozenset({"mul", "square", "pow", "prod", "matmul", "bmm", "mm", "linear", "mse_loss", "cumprod"})

# Operations that are suspected first where a gradient is not finite and its birth was not seen.
PRONE = (
    "sqrt", "rsqrt", "log", "div", "reciprocal", "pow", "norm", "acos", "asin", "atanh", "logit", "normalize", "log2", "log10",
)  # fmt: skip
# Operations that give Inf because the true result is too large for the format.
OVERFLOWING = frozenset(
    {"add", "sub", "einsum", "conv1d", "conv2d", "conv3d", "softplus", "baddbmm", "sum", "mean", "var", "elu", "addmm"}
) | (PRODUCTS - {"pow"}) | (GROWING - {"exp2"})  # fmt: skip
# Operations by which someone puts an Inf where it is meant to be.
PLACED = frozenset(
    {"masked_fill", "where", "full", "full_like", "cat", "stack", "tril", "triu", "pad", "setitem", "index_put"}
)

LARGEST = {"float32": 3.4e38, "float16": 65504.0, "bfloat16": 3.4e38, "float64": 1.8e308}  # finite numbers of a format
NORMAL = {
    "float32": 2.0**-126,
    "bfloat16": 2.0**-126,
    "float16": 2.0**-14,
    "float64": 2.0**-1022,
}  # full precision from here on
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}  # above zero
