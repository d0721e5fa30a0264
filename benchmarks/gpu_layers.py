"""The batch-invariant linear layer against cuBLAS (`F.linear`), over the layers of a Qwen2.5-VL-7B and the rows of decoding and prefill.

python -m benchmarks.gpu_layers
"""

import torch
import torch.nn.functional as F
from editscore_kernels.invariant_linear import invariant_linear

from benchmarks.harness import Bench, time_interleaved

LAYERS = {"q": (3584, 3584), "gate": (18_944, 3584), "down": (3584, 18_944), "head": (152_064, 3584)}  # columns, width
ROWS = (1, 16, 64, 256, 2048)


def main() -> None:
    """Every row alone has the bits that it has in company, then both are timed; appends to benchmarks/results/gpu_layers.csv."""
    if not torch.cuda.is_available():
        raise SystemExit("gpu_layers: torch sees no CUDA device")
    bench = Bench("gpu_layers", config={"layers": LAYERS, "rows": ROWS})
    for layer, (columns, width) in LAYERS.items():
        weight = torch.randn(columns, width, device="cuda", dtype=torch.bfloat16) / width**0.5
        x = torch.randn(max(ROWS), width, device="cuda", dtype=torch.bfloat16)
        whole = invariant_linear(x, weight)
        torch.testing.assert_close(whole[:64].float(), F.linear(x[:64].float(), weight.float()), rtol=2e-2, atol=2e-2)
        for rows in ROWS:
            part = x[-rows:].clone()
            if not torch.equal(invariant_linear(part, weight), whole[-rows:]):
                raise AssertionError(f"{layer}: {rows} rows differ from the same rows among {max(ROWS)}")
            subjects = {
                "triton": lambda part=part, weight=weight: invariant_linear(part, weight),
                "cublas": lambda part=part, weight=weight: F.linear(part, weight),
            }
            times = {name: timing.min_s * 1e6 for name, timing in time_interleaved(subjects, sync=torch.cuda.synchronize).items()}
            case = f"{layer} {columns} x {width}, {rows} rows, bf16"
            bench.compare(case, "triton", "time", times["triton"], "us", peer="cublas", peer_value=times["cublas"])
    print(bench.save())


if __name__ == "__main__":
    main()
