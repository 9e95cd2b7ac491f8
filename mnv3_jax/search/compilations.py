"""Counter of compilations, by which a search shows that its proposals compile nothing."""

import collections

from jax import monitoring

# JAX records it for every program that it compiles or reads from its cache of compiled programs
COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
  """Context manager that counts the programs compiled by this process inside of it.

  Attributes:
    by_name: {name of the function: number of compilations}.
  """

  def __init__(self) -> None:
    self.by_name: collections.Counter[str] = collections.Counter()

  def __enter__(self) -> "Compilations":
    monitoring.register_event_duration_secs_listener(self._count)
    return self

  def __exit__(self, *error: object) -> None:
    monitoring.unregister_event_duration_listener(self._count)

  def _count(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
    del duration_secs
    if event == COMPILED:
      self.by_name[str(kwargs.get("fun_name", "unknown"))] += 1
