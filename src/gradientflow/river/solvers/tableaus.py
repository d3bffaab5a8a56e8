"""Coefficients of explicit Runge–Kutta methods, each from its paper, and what follows from them by computation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tableau:
    """An explicit Runge–Kutta method: stage i is at θ + h Σ a_ij k_j, the step is θ + h Σ b_j k_j.

    Attributes:
        a: rows of the lower triangle; row i has i entries.
        b: weights of the step.
        e: weights of the error estimate h Σ e_j k_j, with one more entry for the rate at the new point; None: no estimate.
        order: of the step.
        error_order: k where the estimate shrinks as hᵏ.
        reach: largest stable h·ρ on the negative real axis.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    e: tuple[float, ...] | None
    order: int
    error_order: int
    reach: float


EULER = Tableau(((),), (1.0,), None, 1, 2, 2.0)

RK4 = Tableau(((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), None, 4, 5, 2.785)

# Dormand & Prince 1980, RK5(4)7M: the fifth-order step, and its difference to the fourth-order one.
DP54 = Tableau(
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    e=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    order=5,
    error_order=5,
    reach=3.306,
)


# Prince & Dormand 1981, RK8(7)13M: the eighth-order step; rationals good to 18 digits, the order conditions are tested.
_EIGHTH = (
    14005451 / 335480064, 0.0, 0.0, 0.0, 0.0, -59238493 / 1068277825, 181606767 / 758867731, 561292985 / 797845732,
    -1041891430 / 1371343529, 760417239 / 1151165299, 118820643 / 751138087, -528747749 / 2220607170, 1 / 4,
)  # fmt: skip
_SEVENTH = (
    13451932 / 455176623, 0.0, 0.0, 0.0, 0.0, -808719846 / 976000145, 1757004468 / 5645159321, 656045339 / 265891186,
    -3867574721 / 1518517206, 465885868 / 322736535, 53011238 / 667516719, 2 / 45, 0.0,
)  # fmt: skip
DP87 = Tableau(
    a=(
        (),
        (1 / 18,),
        (1 / 48, 1 / 16),
        (1 / 32, 0.0, 3 / 32),
        (5 / 16, 0.0, -75 / 64, 75 / 64),
        (3 / 80, 0.0, 0.0, 3 / 16, 3 / 20),
        (29443841 / 614563906, 0.0, 0.0, 77736538 / 692538347, -28693883 / 1125000000, 23124283 / 1800000000),
        (16016141 / 946692911, 0.0, 0.0, 61564180 / 158732637, 22789713 / 633445777, 545815736 / 2771057229,
         -180193667 / 1043307555),
        (39632708 / 573591083, 0.0, 0.0, -433636366 / 683701615, -421739975 / 2616292301, 100302831 / 723423059,
         790204164 / 839813087, 800635310 / 3783071287),
        (246121993 / 1340847787, 0.0, 0.0, -37695042795 / 15268766246, -309121744 / 1061227803, -12992083 / 490766935,
         6005943493 / 2108947869, 393006217 / 1396673457, 123872331 / 1001029789),
        (-1028468189 / 846180014, 0.0, 0.0, 8478235783 / 508512852, 1311729495 / 1432422823, -10304129995 / 1701304382,
         -48777925059 / 3047939560, 15336726248 / 1032824649, -45442868181 / 3398467696, 3065993473 / 597172653),
        (185892177 / 718116043, 0.0, 0.0, -3185094517 / 667107341, -477755414 / 1098053517, -703635378 / 230739211,
         5731566787 / 1027545527, 5232866602 / 850066563, -4093664535 / 808688257, 3962137247 / 1805957418,
         65686358 / 487910083),
        (403863854 / 491063109, 0.0, 0.0, -5068492393 / 434740067, -411421997 / 543043805, 652783627 / 914296604,
         11173962825 / 925320556, -13158990841 / 6184727034, 3936647629 / 1978049680, -160528059 / 685178525,
         248638103 / 1413531060, 0.0),
    ),
    b=_EIGHTH,
    e=(*(x - y for x, y in zip(_EIGHTH, _SEVENTH, strict=True)), 0.0),
    order=8,
    error_order=8,
    reach=5.166,
)  # fmt: skip


def elementary_weights(a: Tensor, order: int) -> dict[int, list[tuple[Tensor, int]]]:
    """Return, for each rooted tree, its elementary weight at every stage and its density.

    A method is of order p when b·weight = 1/density for every tree with up to p vertices (Butcher 1963).

    Args:
        a: the stage matrix, shape (s, s), float64.
        order: largest number of vertices.

    Example:
        >>> euler = elementary_weights(torch.zeros(1, 1, dtype=torch.float64), 2)
        >>> [(n, len(trees)) for n, trees in euler.items()]
        [(1, 1), (2, 1)]
    """
    trees: dict[int, list[tuple[Tensor, int]]] = {1: [(torch.ones(len(a), dtype=a.dtype), 1)]}
    for n in range(2, order + 1):
        trees[n] = []
        for forest in _forests(n - 1, {m: len(trees[m]) for m in trees}):
            weight, density = torch.ones(len(a), dtype=a.dtype), n
            for m, i in forest:
                weight = weight * (a @ trees[m][i][0])
                density *= trees[m][i][1]
            trees[n].append((weight, density))
    return trees


def _forests(vertices: int, counts: dict[int, int]) -> list[list[tuple[int, int]]]:
    """Return every multiset of trees with so many vertices together, as descending lists of (vertices, which)."""
    found: list[list[tuple[int, int]]] = []

    def extend(left: int, chosen: list[tuple[int, int]]) -> None:
        if left == 0:
            found.append(chosen)
            return
        for m in range(1, left + 1):
            for i in range(counts[m]):
                if not chosen or (m, i) <= chosen[-1]:
                    extend(left - m, [*chosen, (m, i)])

    extend(vertices, [])
    return found
