#!/bin/sh
# openvino-genai, and the job's model as its graph. Prints the interpreter and the graph's folder. Usage: openvino.sh ENVS JOB
set -eu
env="$1/openvino"
export="$1/openvino_export"
graph="$2/openvino"
if [ ! -e "$env/.ready-2026.4.1" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install -q openvino-genai==2026.4.1.0 pillow numpy >&2
    touch "$env/.ready-2026.4.1"
fi
if [ ! -e "$graph/.ready" ]; then
    # The exporter pulls in torchvision, which it does not need here, so it is installed without what it asks for.
    if [ ! -e "$export/.ready-2.2.0" ]; then
        python3 -m venv "$export"
        "$export/bin/pip" install -q torch==2.13.0 transformers==4.57.6 openvino==2026.4.1 openvino-tokenizers==2026.4.1.0 \
            optimum==2.3.0 nncf==3.4.0 setuptools pillow >&2
        "$export/bin/pip" install -q --no-deps optimum-intel==2.2.0 >&2
        touch "$export/.ready-2.2.0"
    fi
    "$export/bin/optimum-cli" export openvino --model "$2/model" --task image-text-to-text --weight-format fp32 "$graph" >&2
    touch "$graph/.ready"
fi
echo "$env/bin/python"
echo "$graph"
