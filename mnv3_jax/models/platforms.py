"""One computation in several forms, of which the platform that runs it takes one, in its gradient too."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def by_platform(platform: str | None, default: Callable[..., Any], **platforms: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function of arrays that computes in the form for its platform.

  In a process with an accelerator the choice is made where a function is lowered: what is traced there may run on the CPU too.
  It costs the tracing of every form, and forward-mode differentiation.

  Args:
    platform: "cpu", "gpu" or "tpu", for which the function is compiled; None for the one that runs it.
    default: a function of arrays, for every platform that is not named.
    **platforms: others for "cpu" or "tpu", of the same results.

  Returns:
    A function of the same arguments.
  """
  if platform is None and jax.default_backend() == "cpu":
    platform = "cpu"
  return _where_lowered(default, **platforms) if platform is None else platforms.get(platform, default)


def _where_lowered(default: Callable[..., Any], **platforms: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a function that takes a form where it is lowered. Its gradient is that of the form, from the arguments."""

  @jax.custom_vjp
  def chosen(*arrays: Any) -> Any:
    return lax.platform_dependent(*arrays, default=default, **platforms)

  def forward(*arrays: Any) -> tuple[Any, tuple[Any, ...]]:
    return chosen(*arrays), arrays

  def backward(arrays: tuple[Any, ...], gradient: Any) -> Any:
    others = {platform: _gradient(function) for platform, function in platforms.items()}
    return lax.platform_dependent(arrays, gradient, default=_gradient(default), **others)

  chosen.defvjp(forward, backward)
  return chosen


def _gradient(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], Any], Any]:
  """Returns the function of (arguments, gradient of the results) to the gradient of the arguments."""
  return lambda arrays, gradient: jax.vjp(function, *arrays)[1](gradient)
