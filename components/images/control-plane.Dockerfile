# The control plane: `kino`, launcher, doctor and probe pods, the MLflow server. No torch.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# The locked packages: gigabytes or not, rebuilt only when the lock changes.
FROM ${BASE_IMAGE} AS dependencies
COPY components/images/install-dependencies.sh requirements/installer.lock requirements/control-plane.lock \
     /usr/share/kinetoscope/
RUN sh /usr/share/kinetoscope/install-dependencies.sh control-plane.lock

# Our wheel: built beside them, so that a changed line costs seconds.
FROM ${BASE_IMAGE} AS code
COPY requirements/installer.lock /tmp/
RUN python -m venv /opt/installer \
 && /opt/installer/bin/pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes \
    -r /tmp/installer.lock
WORKDIR /src
COPY components/images/install-code.sh pyproject.toml README.md LICENSE ./
COPY components/kinetoscope_components components/kinetoscope_components
COPY platform platform
RUN sh install-code.sh

# Not copied from a builder stage: buildah and kaniko would copy and digest all packages again at every build.
FROM dependencies
ENV PATH=/opt/kinetoscope/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet
WORKDIR /workspace
USER 10001:10001
COPY --from=code /opt/kinetoscope/bin/kino /opt/kinetoscope/bin/kino
COPY --from=code /opt/kinetoscope/lib/ /opt/kinetoscope/lib/
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kinetoscope/control-plane" \
      org.opencontainers.image.description="Kinetoscope's control plane and its MLflow server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
