# The operator's image. Built from the project's root: docker build .
# Runs as any user that is not root, with a read-only root file system; writes nothing.
# docs/guides/images.md: arguments, sizes, what makes it reproducible.
ARG BASE=docker.io/library/python:3.11-slim

FROM ${BASE} AS requirements
ARG UV_VERSION=0.13.9
# Where the index's certificates are, if the base's own do not do.
ARG SSL_CERT_FILE
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore uv==${UV_VERSION}
COPY images/operator.txt /requirements.txt

FROM ${BASE} AS dependencies
ARG SSL_CERT_FILE
# Another place, if this machine has a cache to mount. The builder takes the folder away again.
ARG UV_CACHE_DIR=/downloads
# buildah mounts a cached stage only if something is copied from it too.
COPY --from=requirements /requirements.txt /opt/evalrun/
# The Kubernetes client's generated classes are three quarters of all files here; documents go in and
# out of the operator as dicts, so nothing imports them.
# Bytecode is valid by its source's hash, since all dates are set anew. Python's marks in it depend on
# what the process has compiled before: so each package is compiled by a process of its own.
RUN --mount=type=bind,from=requirements,source=/usr/local/bin,target=/uv \
    --mount=type=cache,target=/downloads \
    /uv/uv venv --quiet --allow-existing --python "$(command -v python3)" /opt/evalrun \
    && export VIRTUAL_ENV=/opt/evalrun UV_LINK_MODE=copy PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 \
    && /uv/uv pip install --no-deps --require-hashes -r /opt/evalrun/requirements.txt \
    && rm -f /opt/evalrun/.lock /tmp/uv-*.lock \
    && cd "$(/opt/evalrun/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && find kubernetes/client/api kubernetes/client/models kubernetes/aio/client/api kubernetes/aio/client/models \
       -name '*.py' -not -name __init__.py -delete \
    && echo /opt/packages > packages.pth \
    && ls | xargs -P "$(nproc)" -n 1 \
       /opt/evalrun/bin/python -m compileall -q --invalidation-mode unchecked-hash

FROM dependencies
ENV PATH=/opt/evalrun/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    USER=evalrun
COPY crds/evalrun_api /opt/packages/evalrun_api
COPY operator/evalrun_operator /opt/packages/evalrun_operator
# A checkout may keep its files to its owner; the image's user is another.
RUN chmod -R a+rX /opt/packages \
    && PYTHONHASHSEED=0 /opt/evalrun/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/packages \
    && printf '#!/opt/evalrun/bin/python\nfrom evalrun_operator.main import main\n\nmain()\n' \
       > /opt/evalrun/bin/evalrun-operator \
    && chmod 755 /opt/evalrun/bin/evalrun-operator
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["evalrun-operator"]
# Last, so that another commit's name rebuilds nothing.
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1980-01-01T00:00:00Z
ARG SOURCE
LABEL org.opencontainers.image.title="lmms-eval-operator" \
      org.opencontainers.image.description="Acts on EvaluationRuns: plans them, starts their Jobs, tells how they fare" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"
