"""Embedded images in random poses."""

import itertools

import numpy as np
import pytest

from mnv3_jax.config import base
from mnv3_jax.data.image_datasets import open_dataset
from mnv3_jax.data.sources import fashion_mnist, poses
from mnv3_jax.errors import UsageError

SIZE = 32


def dataset(seed=0, host=0, hosts=1, **changes):
  config = base()
  config.data.update({"dataset": "poses", "augment": "none", "train_split": "train[:40]", "eval_split": "test[:10]"})
  config.train.update({"batch_size": 40, "seed": seed})
  config.update_from_flattened_dict(changes)
  return open_dataset(config, SIZE, host=host, hosts=hosts)


def evaluated(opened, batch_size=16):
  batches = list(opened.eval_batches(batch_size))
  real = np.concatenate([batch["mask"] for batch in batches]) == 1
  return tuple(np.concatenate([batch[key] for batch in batches])[real] for key in ("image", "label"))


def test_each_test_image_has_several_poses_whatever_the_seed():
  (images, labels), (others, _) = evaluated(dataset()), evaluated(dataset(seed=5))
  assert len(images) == 10 * poses.COPIES == len(np.unique(images.reshape(len(images), -1), axis=0))
  assert np.array_equal(images, others)
  assert np.array_equal(labels, np.repeat(fashion_mnist.load("test[:10]")[1], poses.COPIES))


def test_hosts_evaluate_every_pose_once():
  images, _ = evaluated(dataset())
  shares = np.concatenate([evaluated(dataset(host=host, hosts=2))[0] for host in range(2)])
  assert sorted(map(bytes, shares)) == sorted(map(bytes, images))


def test_every_epoch_has_other_poses():
  epochs = [batch["image"] for batch in itertools.islice(dataset().train_batches(0), 3)]
  every = np.concatenate(epochs).reshape(120, -1)
  assert len(np.unique(every, axis=0)) == 120


@pytest.mark.parametrize("n", [1, 7, 10, 79, 80, 500])
def test_fewer_examples_are_some_of_all(n):
  images, _ = evaluated(dataset())
  some, _ = evaluated(dataset().limit_eval(n))
  assert len(some) == min(n, len(images)) and set(map(bytes, some)) <= set(map(bytes, images))


def test_evaluation_on_training_images_shows_them_whole():
  images, labels = evaluated(dataset().eval_on_train(40))
  whole, _ = evaluated(dataset(**{"data.dataset": "fashion_mnist"}).eval_on_train(40))
  assert np.array_equal(images, whole) and np.array_equal(labels, fashion_mnist.load("train[:40]")[1])


def test_poses_are_no_copies_of_each_other():
  opened = dataset()
  assert len({opened.facts(i, training=False).digest for i in range(opened.num_eval_examples)}) == 10 * poses.COPIES


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"data.augment": "flip"}, "invalid config.data.augment='flip' for poses; expected 'none'"),
    ({"data.dir": "photos"}, "invalid config.data.dir='photos' for poses"),
    ({"data.classes": ("Bag", "Coat")}, "invalid config.data.classes for poses"),
    ({"data.eval_split": "test[2000:]"}, "is empty"),
    ({"train.batch_size": 41}, "batch_size=41"),
  ],
)
def test_invalid_arguments_are_named(changes, words):
  with pytest.raises(UsageError) as error:
    dataset(**changes)
  assert words in str(error.value)
