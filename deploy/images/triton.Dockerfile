# syntax=docker/dockerfile:1.18
# Triton for GPUs: NVIDIA's server, the graphs, and what builds plans from them on the GPU that will serve them
# (`python3 -m export engine`, the chart's init container). Not built here: there was no registry to take the base from.
ARG TRITON=26.09-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON}
ARG TRITON
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="triton-router-triton" \
      org.opencontainers.image.description="Triton with the signal models of triton-router" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tritonserver:${TRITON}"
# What the python models import; the base image has NumPy. Its Python is the system's own, which pip must be allowed into.
COPY constraints.txt /tmp/constraints.txt
RUN python3 -m pip install --no-cache-dir --break-system-packages -c /tmp/constraints.txt sentencepiece tokenizers
# The builder of the very version that the server loads plans with; NVIDIA's images say it in this variable.
RUN test -n "${TRT_VERSION}" \
 && python3 -m pip install --no-cache-dir --break-system-packages "tensorrt==${TRT_VERSION%%+*}"
# Where plans go; a volume that is new takes over the owner.
RUN install --directory --owner=10001 --group=0 --mode=0775 /models
WORKDIR /opt/triton-router
COPY export export
COPY --from=models /src/model_repository model_repository
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:0
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
  CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
ENTRYPOINT []
CMD ["tritonserver", "--model-repository=/models/repository", "--disable-auto-complete-config"]
