"""Schedule of a run in steps: its length, and when it evaluates, saves and logs."""

import dataclasses

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class RunSchedule:
  """Length and intervals of a run, in steps.

  Attributes:
    per_epoch: steps per epoch.
    total: steps of the run.
    evaluate, checkpoint, log: interval of each.
  """

  per_epoch: int
  total: int
  evaluate: int
  checkpoint: int
  log: int

  @classmethod
  def from_config(cls, config: ConfigDict, per_epoch: int) -> "RunSchedule":
    """Converts the epochs of a config to steps."""
    return cls(
      per_epoch=per_epoch,
      total=config.train.steps or max(round(config.train.epochs * per_epoch), 1),
      evaluate=max(round(config.evaluate.every * per_epoch), 1),
      checkpoint=max(round(config.checkpoint.every * per_epoch), 1),
      log=config.train.log_every,
    )

  def due(self, step: int, interval: int) -> bool:
    """Tells whether an action with this interval comes after `step`; each comes after the last step too."""
    return step % interval == 0 or step == self.total
