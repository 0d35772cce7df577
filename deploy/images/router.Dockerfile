# syntax=docker/dockerfile:1.18
# The router: the wheel, what it needs at run time, the bundle's manifest and tokenizer. No weights, no compiler.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY router router
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
ARG EXTRAS=language,mcp,cache,redis,milvus,tracing
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt "triton-router[${EXTRAS}] @ file://$(ls /wheels/*.whl)"

FROM python:3.11.13-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="triton-router" \
      org.opencontainers.image.description="LLM router for NVIDIA Triton" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.13-slim-bookworm"
COPY --from=build /opt/venv /opt/venv
# Where volumes go; one that is new takes over the owner.
RUN install --directory --owner=10001 --group=0 --mode=0775 /envoy /var/lib/triton-router
WORKDIR /opt/triton-router
COPY --from=models /src/model_repository/bundle.json model_repository/
COPY --from=models /src/model_repository/minilm_tokenizer/1/tokenizer.json model_repository/minilm_tokenizer/1/
COPY --from=models /src/model_repository/use-m3_tokenizer/1/tokenizer.model model_repository/use-m3_tokenizer/1/
COPY --from=models /src/model_repository/pairs/1/tokenizer.json model_repository/pairs/1/
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that `runAsNonRoot` can be checked; the group that OpenShift's users are in. It writes to /tmp and
# --state-directory only, and everything else may be read-only.
USER 10001:0
EXPOSE 50051 8080 9190
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["triton-router", "health", "--config", "/etc/triton-router/config.yaml"]
ENTRYPOINT ["triton-router"]
CMD ["serve", "--config", "/etc/triton-router/config.yaml"]
