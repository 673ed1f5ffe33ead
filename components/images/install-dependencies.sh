#!/bin/sh
# Makes /opt/kinetoscope, a virtual environment of locked and hashed packages.
# Usage: install-dependencies.sh LOCK; LOCK and installer.lock lie beside this script.
set -eu

here=$(dirname "$0")
venv=/opt/kinetoscope
# Also everybody's temporary files: all of it goes before the layer is closed.
TMPDIR=$(mktemp -d)
export TMPDIR
tools=$TMPDIR/tools

# Pods of this user can write nowhere but /tmp and /workspace.
echo 'kinetoscope:x:10001:10001:Kinetoscope:/tmp:/usr/sbin/nologin' >> /etc/passwd
echo 'kinetoscope:x:10001:' >> /etc/group
install -d -o 10001 -g 10001 /workspace

# A package cache that the builder mounts is used; without one nothing may stay in the layer.
if mountpoint -q /root/.cache; then export UV_LINK_MODE=copy; else export UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1; fi

python -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/installer.lock"
python -m venv --without-pip "$venv"

# Pods can write no bytecode. Unchecked hashes: the same bytes in every build, no look at the source at start.
PYC_INVALIDATION_MODE=UNCHECKED_HASH VIRTUAL_ENV="$venv" "$tools/bin/uv" pip sync --compile-bytecode \
    --require-hashes --build-constraints "$here/installer.lock" "$here/$1"
rm -rf "$TMPDIR" "$venv/.lock"

# Official Python images ship their standard library without bytecode.
stdlib=$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
python -m compileall -q -x '(lib2to3|test|tests)/|site-packages|dist-packages' "$stdlib"
