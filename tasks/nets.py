"""Nets: small neural networks over the same features as the trees. Their errors are others, so that both say more.

A net draws smooth lines where trees draw steps, and every feature has a say in all that it learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks.recommenders import Floats, Ints
from tasks.settings import Nets as Settings

Numbers = NDArray[np.float64]
Layer = tuple[Floats, Floats]
"""Weights, from × to, and what is added."""

FAR = 4.0
"""Standard deviations beyond which a value is as good as further out: nobody unheard of leads a net astray."""
FINE = 4.0
"""Of a usual value: from here on up, twice as much is always the same step."""
EVEN = 1e-6
"""Of a spread of logarithms: below, the value is the same everywhere but for rounding."""
DECIMALS = 4
"""Of the log-odds: the last bits of a product depend on who else is in the block, and are no reason to rank."""


@dataclass(frozen=True)
class Reading:
    """A feature as a net reads it: sign(x) log(1 + FINE |x| / unit), shifted and scaled; 0 where nothing is known."""

    units: Numbers
    """By feature: the median of what is not 0, which is its unit whatever it counts."""
    means: Numbers
    spreads: Numbers
    absent: Ints
    """Features of which the net is told, too, that nothing is known; one of those that are always absent together."""

    @classmethod
    def of(cls, table: Numbers) -> Self:
        """How to read tables such as this one."""
        unknown = np.isnan(table)
        sizes = np.abs(np.where(table == 0, np.nan, table))
        units = np.ones(table.shape[1])
        for place in np.flatnonzero(np.isfinite(sizes).any(axis=0)):
            units[place] = np.nanmedian(sizes[:, place])
        logs = _logs(table, units)
        means, spreads = np.nanmean(logs, axis=0), np.nanstd(logs, axis=0)
        partly = np.flatnonzero(unknown.any(axis=0))
        _, first = np.unique(np.packbits(unknown[:, partly], axis=0), axis=1, return_index=True)
        return cls(units, means, np.where(spreads > EVEN, spreads, 1), np.sort(partly[first]))

    def __call__(self, table: Numbers) -> Floats:
        near = _logs(table, self.units)
        near -= self.means
        near /= self.spreads
        np.clip(near, -FAR, FAR, out=near)
        unknown = np.isnan(near)
        near[unknown] = 0
        return np.hstack([near, unknown[:, self.absent]], dtype=np.float32)


def _logs(table: Numbers, units: Numbers) -> Numbers:
    sizes = np.abs(table)
    sizes *= FINE / units
    np.log1p(sizes, out=sizes)
    return np.copysign(sizes, table, out=sizes)


@dataclass(frozen=True)
class Nets:
    """Log-odds of a candidate: the mean over nets that differ by what they started from.

    Rectified units, the log loss and Adam (Kingma and Ba, ICLR 2015), as scikit-learn's multi-layer perceptron.
    """

    reading: Reading
    nets: tuple[tuple[Layer, ...], ...]

    def log_odds(self, table: Numbers) -> Numbers:
        """Of each row; the same whatever the other rows.

        In double precision, and kept in single: where a row stands in a product moves far less than that.
        """
        told = self.reading(table)
        total = np.zeros(len(table))
        for *hidden, (weights, bias) in self.nets:
            units = told
            for layer, added in hidden:
                found = units.astype(np.float64) @ layer.astype(np.float64)
                found += added
                units = np.maximum(found, 0, out=found).astype(np.float32)
            total += (units.astype(np.float64) @ weights.astype(np.float64) + bias)[:, 0]
        return np.round(total / len(self.nets), DECIMALS)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as plain arrays by name."""
        reading = self.reading
        found: dict[str, NDArray[Any]] = {
            "depths": np.array([len(net) for net in self.nets]),
            "scale": np.array([reading.units, reading.means, reading.spreads]),
            "absent": reading.absent,
        }
        for number, net in enumerate(self.nets):
            for depth, (weights, bias) in enumerate(net):
                found[f"layer_{number}_{depth}"] = np.vstack([weights, bias])
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` told."""
        nets = []
        for number, depth in enumerate(arrays["depths"].tolist()):
            layers = [arrays[f"layer_{number}_{at}"] for at in range(depth)]
            nets.append(tuple((layer[:-1], layer[-1]) for layer in layers))
        units, means, spreads = arrays["scale"]
        return cls(Reading(units, means, spreads, arrays["absent"]), tuple(nets))


def fit(table: Numbers, label: NDArray[np.bool_], settings: Settings, seed: int) -> Nets | None:
    """Nets that tell rows that happened from others; None where none is wanted."""
    from sklearn.neural_network import MLPClassifier

    if not settings.count:
        return None
    reading = Reading.of(table)
    told, nets = reading(table), []
    for number in range(settings.count):
        model = MLPClassifier(
            settings.units, alpha=settings.l2, batch_size=min(settings.batch, len(table)),
            learning_rate_init=settings.learning_rate, random_state=np.random.RandomState((seed + number) % 2**32),
        )  # fmt: skip
        # Pass by pass: `fit` warns whenever it is told when to stop.
        for _ in range(settings.passes):
            model.partial_fit(told, label, classes=[False, True])
        nets.append(tuple(zip(model.coefs_, model.intercepts_, strict=True)))
    return Nets(reading, tuple(nets))
