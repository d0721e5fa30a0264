"""What the GPU itself does, beside which every other figure stands: copying, reading, and matrix products by dtype.

python -m benchmarks.gpu_roofs
"""

import torch

from benchmarks.harness import Bench, gemm_subject, roof_subjects, time_interleaved

NUM_BYTES = 4 << 30  # far beyond a second-level cache of 50 to 130 MB
GEMM_SIZE = 8192


def main() -> None:
    """Appends GB/s and TFLOP/s to benchmarks/results/gpu_roofs.csv."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu_roofs: torch sees no CUDA device")
    bench = Bench("gpu_roofs", config={"num_bytes": NUM_BYTES, "gemm_size": GEMM_SIZE})
    copies = time_interleaved(roof_subjects(NUM_BYTES, "cuda"), sync=torch.cuda.synchronize)
    bench.add("4 GiB", "read", "bandwidth", NUM_BYTES / copies["roof_read"].min_s / 1e9, "GB/s")
    bench.add("4 GiB", "copy", "bandwidth", 2 * NUM_BYTES / copies["roof_copy"].min_s / 1e9, "GB/s")
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        run, flops = gemm_subject(dtype, GEMM_SIZE, "cuda")
        seconds = time_interleaved({"gemm": run}, sync=torch.cuda.synchronize)["gemm"].min_s
        bench.add(f"{GEMM_SIZE} {str(dtype).removeprefix('torch.')}", "gemm", "rate", flops / seconds / 1e12, "TFLOP/s")
    print(bench.save())


if __name__ == "__main__":
    main()
