#!/usr/bin/env bash
# One call on a machine with a GPU: the tests that need one, then the table of GPU figures. Needs torch, torchvision and
# the small packages of requirements.txt, but neither streamlit nor jsonschema. Where CIFAR is not prepared ($TAKD_DATA),
# images are random.
#
#   benchmarks/gpu.sh [--device cuda:0] [--row NAME]... [--limit SECONDS] [--quick]
#
# PYTHON=program chooses the interpreter, TESTS=0 leaves the tests out. Reports go to $OUT (gpu.json, gpu-tests.txt) if
# that is set. With --device cpu everything but CUDA itself is gone through, and the tests are only collected.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
python=${PYTHON:-python3}
out=${OUT:-$(mktemp -d)}
mkdir -p "$out"
code=0

if [ "${TESTS:-1}" != 0 ]; then
    collect=()
    case " $* " in *' --device cpu '* | *' --device=cpu '*) collect=(--collect-only) ;; esac
    # Only files with such tests: others may import what is not installed here. No settings, as pytest may be older.
    mapfile -t files < <(grep -rlE 'mark\.gpu' tests --include='test_*.py')
    timeout 240 "$python" -m pytest -q -c /dev/null --rootdir . -p no:cacheprovider -W ignore -m gpu "${collect[@]}" \
        "${files[@]}" 2>&1 | tee "$out/gpu-tests.txt"
    tests=${PIPESTATUS[0]}
    [ "$tests" -eq 0 ] || code=1
    echo "tests that need a GPU: exit code $tests"
fi

"$python" -m benchmarks.gpu --json "$out/gpu.json" "$@" || code=1
echo "report: $out/gpu.json"
exit "$code"
