export PYTHONPATH=$PWD
[ -e /tmp/plan/QUIET ] && echo QUIET && exit
timeout 200 /work/main/.venv/bin/python -m pytest -q -n0 -x "$@" 2>&1 | tail -35
