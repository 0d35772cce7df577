# syntax=docker/dockerfile:1.18
# The signal bundle and the models behind it, made once for both images: they know each other by its checksum.
FROM python:3.11.13-slim-bookworm
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY router router
COPY export export
COPY model_repository model_repository
RUN pip install --no-cache-dir -c constraints.txt ".[export]"
# What `python -m export all` is told beside, such as which platforms the graphs are for.
ARG EXPORT_OPTIONS=""
# hadolint ignore=SC2086
RUN python -m export all ${EXPORT_OPTIONS} && chmod -R a+rX model_repository
