"""GPUs as values: what XLA's compiler asks of one, and the memory of a device."""

import dataclasses

# figures of the GPUs themselves, as openxla/xla describes them in xla/backends/gpu/target_config/specs
_LIMITS = {
  "threads_per_block_limit": 1024,
  "threads_per_warp": 32,
  "threads_per_core_limit": 2048,
  "shared_memory_per_block": 49152,
  "block_dim_limit_x": 2**31 - 1,
  "block_dim_limit_y": 65535,
  "block_dim_limit_z": 65535,
  "thread_dim_limit_x": 1024,
  "thread_dim_limit_y": 1024,
  "thread_dim_limit_z": 64,
  "registers_per_core_limit": 65536,
  "registers_per_block_limit": 65536,
}
# versions that the described machine has
CUDNN, CUDA = (9, 10), (12, 8)
# GPUs of a host, where there are several hosts
HOST_GPUS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
  """One model of GPU. XLA estimates no times for it.

  Attributes:
    name: in the name of a topology.
    kind: as JAX names the device.
    capability: compute capability (major, minor).
    cores: streaming multiprocessors.
    fpus: float32 units of each.
    clock_ghz: of the multiprocessors.
    memory: bytes.
    bandwidth: of that memory, bytes per second.
    l2: bytes of the cache.
    shared, shared_block: bytes of shared memory of a multiprocessor, and those that a block may ask for.
  """

  name: str
  kind: str
  capability: tuple[int, int]
  cores: int
  fpus: int
  clock_ghz: float
  memory: int
  bandwidth: int
  l2: int
  shared: int
  shared_block: int

  @property
  def hbm(self) -> float:
    """Bytes that a program may use: three quarters of the memory, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise."""
    return 0.75 * self.memory

  def target(self) -> str:
    """Formats it as the text of XLA's GpuTargetConfigProto."""
    figures = {
      **_LIMITS,
      "core_count": self.cores,
      "fpus_per_core": self.fpus,
      "clock_rate_ghz": self.clock_ghz,
      "device_memory_size": self.memory,
      "memory_bandwidth": self.bandwidth,
      "l2_cache_size": self.l2,
      "shared_memory_per_core": self.shared,
      "shared_memory_per_block_optin": self.shared_block,
    }
    major, minor = self.capability
    lines = [f"{name}: {value}" for name, value in figures.items()]
    lines += [f"cuda_compute_capability {{ major: {major} minor: {minor} }}"]
    versions = {"dnn_version_info": CUDNN, "runtime_version": CUDA}
    about = [f"{name} {{ major: {version[0]} minor: {version[1]} }}" for name, version in versions.items()]
    inside = "\n".join(lines)
    return "\n".join(
      [f"gpu_device_info {{\n{inside}\n}}", 'platform_name: "CUDA"', *about, f'device_description_str: "{self.kind}"', ""]
    )


# fmt: off
GPUS: dict[str, Gpu] = {gpu.name: gpu for gpu in (
  Gpu(name="v100", kind="Tesla V100-SXM2-16GB", capability=(7, 0), cores=80, fpus=64, clock_ghz=1.53, memory=16935682048,
      bandwidth=898048000000, l2=6291456, shared=98304, shared_block=98304),
  Gpu(name="a100", kind="NVIDIA A100-SXM4-80GB", capability=(8, 0), cores=108, fpus=64, clock_ghz=1.41, memory=85100068864,
      bandwidth=2039040000000, l2=41943040, shared=167936, shared_block=166912),
  Gpu(name="h100", kind="NVIDIA H100 80GB HBM3", capability=(9, 0), cores=132, fpus=128, clock_ghz=1.98, memory=84942979072,
      bandwidth=3352320000000, l2=52428800, shared=233472, shared_block=232448),
  Gpu(name="h200", kind="NVIDIA H200 141GB HBM3e", capability=(9, 0), cores=132, fpus=128, clock_ghz=1.98, memory=151397597184,
      bandwidth=4800000000000, l2=52428800, shared=233472, shared_block=232448),
)}
# fmt: on
