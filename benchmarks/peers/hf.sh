#!/bin/sh
# transformers alone, without torchvision. Prints the interpreter. Usage: hf.sh ENVS JOB
set -eu
env="$1/hf"
done="$env/.ready-5.23.0"
if [ ! -e "$done" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install -q torch==2.13.0 transformers==5.23.0 pillow numpy >&2
    touch "$done"
fi
echo "$env/bin/python"
