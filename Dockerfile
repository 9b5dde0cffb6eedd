# Packages are installed in a stage of their own, each checked against its hash; nothing that installs is left behind.
FROM python:3.13-slim AS packages
COPY requirements.lock /tmp/requirements.lock
RUN python -m venv --without-pip /opt/penumbra \
 && python -m pip --python /opt/penumbra/bin/python install --no-cache-dir --no-input --disable-pip-version-check \
    --require-hashes --only-binary :all: -r /tmp/requirements.lock

FROM python:3.13-slim
# A user with a name: the private Postgres of `penumbra demo` asks for it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin penumbra \
 && install -d -o penumbra -g penumbra -m 0700 /data \
 && install -d -o penumbra -g penumbra -m 0750 /access \
 && python -m pip uninstall --yes --quiet --root-user-action ignore pip
COPY --from=packages /opt/penumbra /opt/penumbra
COPY . /app
RUN printf '#!/bin/sh\nexec /opt/penumbra/bin/python -m scripts.cli "$@"\n' > /usr/local/bin/penumbra \
 && chmod 0755 /usr/local/bin/penumbra \
 && /opt/penumbra/bin/python -m compileall -q /app

# Everything it writes goes to /data and /tmp, so the rest may be read-only.
ENV PATH=/opt/penumbra/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    PENUMBRA_DATA_DIR=/data
WORKDIR /data
VOLUME /data
USER 10001:10001
ENTRYPOINT ["penumbra"]
CMD ["--help"]
