#!/usr/bin/env bash
# Prints a Python that has the Kubernetes plugins and a pretended S3, for tests/test_kubernetes.py.
# usage: tests/kubernetes.sh FOLDER     makes the environment in FOLDER
#
# The plugins want an older python-dateutil than requirements.lock, so they lie above that
# environment in one of their own, and the study itself runs on what everyone else runs on.
set -euo pipefail
folder=${1:?usage: tests/kubernetes.sh FOLDER}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
below=$(bash "$here/../scripts/setup.sh" dev)
"$below/python" -m venv "$folder"
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
packages=$("$below/python" -c "$purelib")
echo "import site; site.addsitedir('$packages')" > "$("$folder/bin/python" -c "$purelib")/below.pth"
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --require-hashes \
  -r "$here/kubernetes.lock" >&2
echo "$folder/bin/python"
