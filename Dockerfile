# The operator's image. Built from the project's root: docker build .
# Runs as any user that is not root, with a read-only root file system; writes nothing.
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS requirements
ARG UV_VERSION=0.13.9
# Where the index's certificates are, if the base's own do not do.
ARG SSL_CERT_FILE
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==${UV_VERSION}
COPY images/operator.txt /requirements.txt

FROM ${BASE} AS dependencies
ARG SSL_CERT_FILE
# Another place, if this machine has a cache to mount.
ARG UV_CACHE_DIR=/root/.cache/uv
# buildah mounts a cached stage only if something is copied from it too.
COPY --from=requirements /requirements.txt /opt/evalrun/
RUN --mount=type=bind,from=requirements,source=/usr/local/bin,target=/uv \
    --mount=type=cache,target=/root/.cache/uv \
    /uv/uv venv --quiet --allow-existing --python "$(command -v python3)" /opt/evalrun \
    && VIRTUAL_ENV=/opt/evalrun UV_LINK_MODE=copy /uv/uv pip install --compile-bytecode \
       --require-hashes -r /opt/evalrun/requirements.txt \
    && echo /opt/packages > "$(/opt/evalrun/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth"

FROM dependencies
ENV PATH=/opt/evalrun/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    USER=evalrun
COPY crds/evalrun_api /opt/packages/evalrun_api
COPY operator/evalrun_operator /opt/packages/evalrun_operator
# A checkout may keep its files to its owner; the image's user is another.
RUN chmod -R a+rX /opt/packages \
    && /opt/evalrun/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/packages \
    && printf '#!/opt/evalrun/bin/python\nfrom evalrun_operator.main import main\n\nmain()\n' \
       > /opt/evalrun/bin/evalrun-operator \
    && chmod 755 /opt/evalrun/bin/evalrun-operator
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["evalrun-operator"]
