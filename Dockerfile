# zkkrum with its tools, for people without Python, Node.js or root. The tools are root's and read-only; who runs it is
# nobody in particular.
#
#   docker build -t zkkrum .
#   docker run --rm -v "$PWD/round:/work:ro" zkkrum verify bundle --commitments commitments --round round.toml
#   docker run --rm -v "$PWD/round:/work" -v "$PWD/crs:/crs:ro" -e CRS_PATH=/crs --user "$(id -u)" zkkrum prove .
#
# tests/integration/test_container.py runs these steps without Docker.

FROM node:22-bookworm-slim AS node

FROM python:3.12-slim-bookworm AS build
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY circuits ./circuits
COPY examples/digits ./examples/digits
ENV ZKKRUM_CACHE=/opt/zkkrum/cache
RUN python -m venv /opt/zkkrum/venv
RUN /opt/zkkrum/venv/bin/pip install --no-cache-dir .
RUN /opt/zkkrum/venv/bin/zkkrum setup

FROM python:3.12-slim-bookworm
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=build /opt/zkkrum /opt/zkkrum
# What is compiled goes to XDG_CACHE_HOME, since ZKKRUM_CACHE cannot be written to: so any --user can prove.
ENV PATH=/opt/zkkrum/venv/bin:/usr/local/bin:/usr/bin:/bin ZKKRUM_CACHE=/opt/zkkrum/cache XDG_CACHE_HOME=/tmp/cache
RUN useradd --uid 10001 --create-home zkkrum
USER 10001
WORKDIR /work
ENTRYPOINT ["zkkrum"]
CMD ["--help"]
