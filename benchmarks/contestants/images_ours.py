"""Contestant of pipeprotocol.py: this project's pipeline on class folders."""

import os
import time

import protocol

CASE = protocol.read_case()
# before any library counts the cores
os.sched_setaffinity(0, CASE["cores"])

from mnv3_jax.config_overrides import read_config  # noqa: E402
from mnv3_jax.data import image_datasets  # noqa: E402
from mnv3_jax.data.pipelines import tf_stream  # noqa: E402


def main() -> None:
  """Runs the contestant."""
  values = {
    "data.dataset": "folder",
    "data.dir": CASE["folder"],
    "data.eval_split": "test",
    "data.augment": CASE["augment"],
    "model.resolution": CASE["resolution"],
    "train.batch_size": CASE["batch"],
  }
  config = read_config("configs/imagenet.py:mobilenetv3_small", [f"--config.{k}={v}" for k, v in values.items()])
  version = tf_stream.tensorflow().__version__
  began = time.perf_counter()
  config.data.classes = image_datasets.class_names(config)
  batches = image_datasets.open_dataset(config, CASE["resolution"], host=0, hosts=1).train_batches(0)
  next(batches)
  about = {"first_batch_s": round(time.perf_counter() - began, 2), "versions": {"tensorflow": version}}
  protocol.serve(lambda: next(batches), lambda: None, **about)


if __name__ == "__main__":
  main()
