"""Input rate of a host: the images that its devices take, beside those that its processors can prepare."""

import dataclasses
import math
from typing import Any

# share of the processors of a host above which the input has little to spare
TIGHT = 0.8
REMEDY = "store smaller images or choose a cheaper config.data.augment"


@dataclasses.dataclass(frozen=True)
class HostInput:
  """Images that a host has to read for its devices, and what that takes.

  Attributes:
    images_per_second: that its devices take, by the compiler's estimate.
    machine: type of the host; "" where it is not known.
    vcpus: processors of the host; 0 where they are not known.
    images_per_core: images per second that the input pipeline prepares on one processor; None where it was not measured.
  """

  images_per_second: float
  machine: str
  vcpus: int
  images_per_core: float | None = None

  @property
  def cores(self) -> int | None:
    """Processors that the input needs; None where its rate was not measured."""
    return math.ceil(self.images_per_second / self.images_per_core) if self.images_per_core else None

  @property
  def keeps_up(self) -> bool | None:
    """True if the host has that many processors; None where one of both is not known."""
    return self.cores <= self.vcpus if self.cores is not None and self.vcpus else None

  @property
  def waiting(self) -> float | None:
    """Share of the time in which devices wait for images, where all processors prepare some; None where it is not known."""
    if not self.images_per_core or not self.vcpus:
      return None
    return max(1 - self.vcpus * self.images_per_core / self.images_per_second, 0.0) if self.images_per_second else 0.0

  def __str__(self) -> str:
    """Formats the verdict as one sentence."""
    if not self.images_per_core:
      each = f", {self.images_per_second / self.vcpus:,.0f} on each of its {self.vcpus} vCPUs" if self.vcpus else ""
      return f"to keep up, each host has to read {self.images_per_second:,.0f} images/s (estimated){each}"
    wanted, rate = (
      f"{self.images_per_second:,.0f} images/s a host (estimated) need",
      f"at {self.images_per_core:,.0f} images/s each",
    )
    if not self.vcpus:
      return f"{wanted} {self.cores:,} vCPUs {rate}; how many a host has is not known"
    if self.keeps_up:
      spare = " with little to spare" if (self.cores or 0) > TIGHT * self.vcpus else ""
      return f"{wanted} {self.cores:,} of its {self.vcpus} vCPUs {rate}: the input keeps up{spare}"
    waiting = f"devices would wait {100 * (self.waiting or 0):.0f} % of the time"
    return f"{wanted} {self.cores:,} vCPUs {rate}, it has {self.vcpus}: the input does not keep up, {waiting}; {REMEDY}"

  def to_dict(self) -> dict[str, Any]:
    """Returns it as JSON."""
    return {
      **dataclasses.asdict(self),
      "cores": self.cores,
      "keeps_up": self.keeps_up,
      "waiting": self.waiting,
      "verdict": str(self),
    }
