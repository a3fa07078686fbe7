# Build: everything that is downloaded is checked against the hashes of requirements.lock, the build
# backend included. Run: only what the server needs, without pip's cache, as nobody in particular.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /build \
 && /build/bin/pip wheel --quiet --require-hashes --no-deps --wheel-dir /wheels -r requirements.lock \
 && /build/bin/pip install --quiet --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE CHANGELOG.md config.example.toml ./
COPY styx styx
COPY migrations migrations
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv /venv \
 && /venv/bin/pip install --quiet --no-index --find-links /wheels 'styx[server]' \
 && /venv/bin/pip uninstall --quiet --yes pip

FROM python:3.13-slim
RUN install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/styx
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH STYX_HOME=/var/lib/styx HOME=/var/lib/styx PYTHONUNBUFFERED=1
USER 65532:65532
VOLUME /var/lib/styx
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", \
  "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('STYX_SERVER_PORT', '8080')}/health\", timeout=2)"]
ENTRYPOINT ["styx"]
CMD ["serve"]
