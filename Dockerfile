# syntax=docker/dockerfile:1
# One image with the three binaries (target `muster`), and one with a small web service beside an agent (target `demo`).

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG MUSTER_BUILD_COMMIT=unknown
ENV MUSTER_BUILD_COMMIT=${MUSTER_BUILD_COMMIT}
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p muster-registry -p muster-agent -p muster-cli \
    && mkdir /out \
    && cp target/release/muster-registry target/release/muster-agent target/release/muster /out/

FROM debian:bookworm-slim AS muster
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/muster muster
COPY --from=build /out/ /usr/local/bin/
USER 10001:10001
WORKDIR /var/lib/muster
ENTRYPOINT ["muster"]

FROM python:3.13-slim-bookworm AS demo
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/muster muster
COPY --from=build /out/muster-agent /usr/local/bin/
USER 10001:10001
WORKDIR /var/lib/muster
ENTRYPOINT ["muster-agent"]
