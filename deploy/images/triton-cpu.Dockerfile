# syntax=docker/dockerfile:1.18
# Triton without a GPU: the server of the nvidia-pytriton wheel, the one that this project's tests run. It has the python
# backend and nothing else, and is much smaller than NVIDIA's image.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY router router
# `stack` without Envoy; NumPy below 2, or the python backend aborts on text.
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt . "nvidia-pytriton==0.7.0" onnxruntime "numpy<2"

FROM python:3.11.13-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="triton-router-triton" \
      org.opencontainers.image.description="Triton with the signal models of triton-router, for CPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.13-slim-bookworm"
COPY --from=build /opt/venv /opt/venv
COPY --chmod=0755 deploy/images/tritonserver /usr/local/bin/tritonserver
WORKDIR /opt/triton-router
COPY --from=models /src/model_repository model_repository
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:0
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
ENTRYPOINT []
CMD ["tritonserver", "--model-repository=/opt/triton-router/model_repository", "--model-config-name=cpu", "--disable-auto-complete-config"]
