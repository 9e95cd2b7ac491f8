"""Type aliases of several packages."""

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Array, Float, UInt8

# "params" and "batch_stats": nested dicts of float32 arrays
Variables: TypeAlias = Mapping[str, Any]
# arrays by name, the first axis of each being the examples: "image", "label", "mask", ...
Batch: TypeAlias = Mapping[str, Any]
# sums over examples by name, numbers or arrays, from which metrics are computed
MetricSums: TypeAlias = dict[str, Any]
# metrics by name, as result.json keeps them
Metrics: TypeAlias = dict[str, Any]
# JAX array, traced or not, or NumPy array
AnyArray: TypeAlias = Array | np.ndarray
# network input: normalized images in float32
Images: TypeAlias = Float[AnyArray, "b h w c"]
# decoded image: 8-bit pixels
Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]
PathLike: TypeAlias = str | os.PathLike[str]
# image or map size in pixels: a side of a square, or (height, width)
Size: TypeAlias = int | tuple[int, int]
