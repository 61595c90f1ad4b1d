# The image of ztproxy: two stages, user 65532, made for a read-only root with one writable volume.
#
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim-bookworm@sha256:<digest> -t ztproxy .
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges \
#     -v ztproxy-state:/var/lib/ztproxy -v /etc/ztproxy:/etc/ztproxy:ro -p 8443:8443 ztproxy
#
# Give the base by digest for anything that is deployed; the tag below is for trying things out.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# The build backend comes from the development lock, so it too is pinned by hash; nothing of it is in the image.
RUN python -m venv /build && /build/bin/pip install --quiet --require-hashes -r requirements-dev.lock
RUN python -m venv --without-pip /opt/ztproxy \
    && /build/bin/pip --python /opt/ztproxy/bin/python install --quiet --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY ztproxy ztproxy
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/ztproxy/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/ztproxy /opt/ztproxy
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/ztproxy
# Bytecode was compiled in the build stage; at run time nothing writes outside the volume.
ENV PATH=/opt/ztproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/ztproxy \
    STATE_DIRECTORY=/var/lib/ztproxy
VOLUME ["/var/lib/ztproxy"]
USER 65532:65532
EXPOSE 8443
STOPSIGNAL SIGTERM
# HEALTHCHECK arrives with the admin listener, the only place health is ever answered (THREAT_MODEL.md, S07).
ENTRYPOINT ["/opt/ztproxy/bin/ztproxy"]
CMD ["serve", "-c", "/etc/ztproxy/ztproxy.yaml"]
