# docker buildx bake --file deploy/images/docker-bake.hcl          all images
# docker buildx bake --file deploy/images/docker-bake.hcl cpu      those that need no GPU
# REGISTRY=registry.example.com/llm VERSION=0.1.0 docker buildx bake --file deploy/images/docker-bake.hcl --push

variable "REGISTRY" {
  default = ""
}

variable "VERSION" {
  default = "0.1.0"
}

variable "REVISION" {
  default = ""
}

# Release of NVIDIA's container, whose server and TensorRT the plans are for.
variable "TRITON" {
  default = "26.09-py3"
}

# For `python -m export all` before the GPU image.
variable "EXPORT_OPTIONS" {
  default = "--for both"
}

function "name" {
  params = [image, suffix]
  result = REGISTRY == "" ? "${image}:${VERSION}${suffix}" : "${REGISTRY}/${image}:${VERSION}${suffix}"
}

group "default" {
  targets = ["router", "triton", "triton-cpu"]
}

group "cpu" {
  targets = ["router", "triton-cpu"]
}

target "_image" {
  context = "."
  args = {
    VERSION  = VERSION
    REVISION = REVISION
  }
  attest = ["type=sbom", "type=provenance,mode=max"]
}

target "models" {
  context    = "."
  dockerfile = "deploy/images/models.Dockerfile"
}

target "models-gpu" {
  inherits = ["models"]
  args = {
    EXPORT_OPTIONS = EXPORT_OPTIONS
  }
}

target "router" {
  inherits   = ["_image"]
  dockerfile = "deploy/images/router.Dockerfile"
  contexts   = { models = "target:models" }
  tags       = [name("triton-router", "")]
}

target "triton" {
  inherits   = ["_image"]
  dockerfile = "deploy/images/triton.Dockerfile"
  contexts   = { models = "target:models-gpu" }
  args       = { TRITON = TRITON }
  tags       = [name("triton-router-triton", "")]
}

target "triton-cpu" {
  inherits   = ["_image"]
  dockerfile = "deploy/images/triton-cpu.Dockerfile"
  contexts   = { models = "target:models" }
  tags       = [name("triton-router-triton", "-cpu")]
}
