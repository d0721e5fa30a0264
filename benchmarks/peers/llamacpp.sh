#!/bin/sh
# llama-cpp-python compiled for this machine, and the job's model as GGUF. Prints the interpreter and the folder of the GGUF files.
# Usage: llamacpp.sh ENVS JOB
set -eu
version=0.3.36
env="$1/llamacpp"
export="$1/llamacpp_export"
source="$env/source/llama_cpp_python-$version"
graph="$2/llamacpp"
if [ ! -e "$env/.ready-$version" ]; then
    python3 -m venv "$env"
    # There are no wheels of it. The source brings the converter too, which is not installed.
    mkdir -p "$env/source"
    "$env/bin/pip" download -q --no-deps --no-binary llama-cpp-python --dest "$env/source" llama-cpp-python==$version >&2
    tar -xzf "$env/source/llama_cpp_python-$version.tar.gz" -C "$env/source"
    # This version forgets to read the epsilon of this architecture's norms and takes 0, which makes the job's zero rows of special
    # tokens into NaN. The line that the other architectures have costs no time.
    sed -i '/^void llama_model_qwen2vl::load_arch_hparams/a ml.get_key(LLM_KV_ATTENTION_LAYERNORM_RMS_EPS, hparams.f_norm_rms_eps);' \
        "$source/vendor/llama.cpp/src/models/qwen2vl.cpp"
    CMAKE_BUILD_PARALLEL_LEVEL=2 CMAKE_ARGS="-DGGML_NATIVE=ON" "$env/bin/pip" install -q "$source" pillow numpy >&2
    touch "$env/.ready-$version"
fi
if [ ! -e "$graph/.ready-$version" ]; then
    if [ ! -e "$export/.ready-$version" ]; then
        python3 -m venv "$export"
        "$export/bin/pip" install -q torch==2.13.0 transformers==4.57.6 sentencepiece==0.2.3 "$source/vendor/llama.cpp/gguf-py" >&2
        touch "$export/.ready-$version"
    fi
    mkdir -p "$graph"
    convert="$source/vendor/llama.cpp/convert_hf_to_gguf.py"
    "$export/bin/python" "$convert" "$2/model" --outtype bf16 --outfile "$graph/model.gguf" >&2
    "$export/bin/python" "$convert" "$2/model" --mmproj --outtype bf16 --outfile "$graph/mmproj.gguf" >&2
    touch "$graph/.ready-$version"
fi
echo "$env/bin/python"
echo "$graph"
