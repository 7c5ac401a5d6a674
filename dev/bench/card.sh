#!/usr/bin/env bash
# Measure a card in at most eight minutes: OUT/card.json and OUT/card.md. See card.py; wheels.sh packs what may be missing.
#
#   dev/bench/card.sh OUT [--dry] [--only PART,PART] [--minutes 8]
#
# Where LongLive lies in build/card/reference (git clone --branch v1.0), its own network is timed in the same run.
set -euo pipefail
[ "${1:-}" != --help ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit; }
out=$(mkdir -p "${1:?usage: dev/bench/card.sh OUT [--dry]}" && cd "$1" && pwd)
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
for packed in build/card/*.tar.xz; do
    if [ -f "$packed" ]; then
        "$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$packed" "$site"
    fi
done
export PYTHONPATH="$PYTHONPATH:$site"
PYTHONUNBUFFERED=1 "$python" dev/bench/card.py "$out" "${@:2}"
