#!/usr/bin/env bash
# What a machine with torch alone lacks for card.sh, packed small, in FOLDER (default: build/card, which git ignores).
#
#   dev/bench/wheels.sh [FOLDER]              PyAV and diffusers, in site.tar.xz
#   dev/bench/wheels.sh --attention [FOLDER]  cuDNN's frontend, in attention.tar.xz
#
# The first is for CPython 3.11 and newer on x86-64 Linux: one wheel of PyAV serves them all; versions are those of
# constraints-dev.txt, and diffusers goes without its pipelines, which the Wan VAE does not import. The second is for
# CPython ${PYTHON_OF_CARD:-3.12} alone, and goes without the kernels that are no attention.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
name=site at=3.11
if [ "${1:-}" = --attention ]; then name=attention at=${PYTHON_OF_CARD:-3.12}; shift; fi
folder=${1:-$here/build/card}
python=${PYTHON:-python3}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "$name" = site ]; then
    mapfile -t wanted < <(sed -nE 's/^((av|diffusers)==[^;]+).*/\1/p' "$here/constraints-dev.txt")
else
    wanted=(nvidia-cudnn-frontend==1.23.0)
fi
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$at" --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --dest "$work" "${wanted[@]}"
for wheel in "$work"/*.whl; do "$python" -m zipfile -e "$wheel" "$work/site"; done
if command -v strip > /dev/null; then  # a fifth of the archive is names that nobody looks up
    find "$work/site" -name '*.so*' -exec strip --strip-unneeded {} +
fi
"$python" - "$work/site" "$folder/$name.tar.xz" <<'PY'
import lzma, sys, tarfile
from pathlib import Path

site, out = map(Path, sys.argv[1:])
left_out = ("diffusers/pipelines", "diffusers/modular_pipelines", "av/include", "include")
frontend = ("__init__", "_compiled_module", "datatypes", "graph", "wrapper")
sources = (".pxd", ".pyx", ".pyi", ".h")
machine_code = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def goes(name: str) -> bool:
    if name.startswith("cudnn/"):
        return name.removeprefix("cudnn/").partition(".")[0] in frontend
    return not name.startswith(left_out) and Path(name).suffix not in sources


with lzma.open(out, "wb", filters=machine_code) as thin, tarfile.open(fileobj=thin, mode="w") as packed:
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        if path.is_file() and goes(name):
            packed.add(path, name)
print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
PY
