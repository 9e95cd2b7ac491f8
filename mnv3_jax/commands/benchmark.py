"""mnv3 benchmark: times a .tflite file on this machine."""

import dataclasses

from mnv3_jax.commands.options import Options, positive, print_json, threads
from mnv3_jax.mobile import runtime
from mnv3_jax.mobile.latency import measure

EXAMPLE = "mnv3 benchmark large.tflite --threads 1 --runs 200"


def main(arguments):
  """Runs the verb; see mnv3 benchmark --help."""
  options = Options("benchmark", "Times a .tflite file on this machine: LiteRT with XNNPACK, batch 1.", EXAMPLE)
  options.add_argument("file", metavar="FILE", help="a .tflite file")
  options.add_argument("--threads", type=threads, default=1, metavar="N", help="threads of the runtime (1, as in the paper)")
  options.add_argument("--runs", type=positive, default=100, metavar="N", help="invocations that count (100)")
  options.add_argument("--json", action="store_true", help="print {median_ms, p25_ms, p75_ms, runs, threads, ops, partitions}")
  given = options.parse(arguments)
  network = runtime.Network(runtime.read(given.file), given.threads, repr(given.file))
  latency = measure(network, given.runs, given.threads)
  if given.json:
    print_json({**dataclasses.asdict(latency), "ops": network.ops, "partitions": network.partitions})
    return
  print(f"{given.file}: median {latency.median_ms:.2f} ms, quartiles {latency.p25_ms:.2f} to {latency.p75_ms:.2f} ms")
  print(
    f"  {latency.runs} runs, {latency.threads} thread{'s' * (latency.threads > 1)}, XNNPACK partitions: {network.partitions}"
  )
  print("  " + ", ".join(f"{n} {op}" for op, n in network.ops.items()))
