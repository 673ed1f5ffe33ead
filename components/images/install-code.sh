#!/bin/sh
# Builds our wheel of the checkout in the current folder and installs it, without its dependencies, into an
# environment at the path that it has in the image. Hatchling and pip are in /opt/installer.
set -eu

python -m venv --without-pip /opt/kinetoscope
/opt/installer/bin/python -m hatchling build -t wheel -d /tmp/wheel
/opt/installer/bin/pip --python /opt/kinetoscope/bin/python install --quiet --disable-pip-version-check \
    --no-index --find-links /tmp/wheel --no-deps --no-compile kinetoscope
/opt/kinetoscope/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/kinetoscope/lib
