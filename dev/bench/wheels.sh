#!/usr/bin/env bash
# What a machine with torch alone lacks for card.sh: PyAV and diffusers, packed small, in FOLDER/site.tar.xz.
#
#   dev/bench/wheels.sh [FOLDER]        (default: build/card, which git ignores; card.sh looks there)
#
# For CPython 3.11 and newer on x86-64 Linux: one wheel of PyAV serves them all. Versions are those of
# constraints-dev.txt. diffusers goes without its pipelines, which the Wan VAE does not import.
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit; }
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$here/build/card}
python=${PYTHON:-python3}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t wanted < <(sed -nE 's/^((av|diffusers)==[^;]+).*/\1/p' "$here/constraints-dev.txt")
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.11 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --dest "$work" "${wanted[@]}"
for wheel in "$work"/*.whl; do "$python" -m zipfile -e "$wheel" "$work/site"; done
if command -v strip > /dev/null; then  # a fifth of the archive is names that nobody looks up
    find "$work/site" -name '*.so*' -exec strip --strip-unneeded {} +
fi
"$python" - "$work/site" "$folder/site.tar.xz" <<'PY'
import lzma, sys, tarfile
from pathlib import Path

site, out = map(Path, sys.argv[1:])
left_out = ("diffusers/pipelines", "diffusers/modular_pipelines", "av/include")
sources = (".pxd", ".pyx", ".pyi", ".h")
machine_code = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9}]
with lzma.open(out, "wb", filters=machine_code) as thin, tarfile.open(fileobj=thin, mode="w") as packed:
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        if path.is_file() and not name.startswith(left_out) and path.suffix not in sources:
            packed.add(path, name)
print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
PY
