{{- define "triton-router.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels by which one component of one release is selected. Takes (list $ "component"). */}}
{{- define "triton-router.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "triton-router.labels" -}}
{{- $root := index . 0 -}}
{{ include "triton-router.selector" . }}
app.kubernetes.io/part-of: triton-router
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* Takes (list $ "name of the image" "suffix of the tag"). */}}
{{- define "triton-router.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}{{ index . 2 }}
{{- end -}}
{{- end -}}

{{/* Settings of every pod. */}}
{{- define "triton-router.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* No fixed user: the image's own, or the one that the cluster picks. */}}
{{- define "triton-router.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "triton-router.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "triton-router.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A volume of the given kind. Takes the map with kind, claimName, path, sizeLimit. */}}
{{- define "triton-router.volume" -}}
{{- if eq .kind "persistentVolumeClaim" -}}
persistentVolumeClaim:
  claimName: {{ required "a volume of kind persistentVolumeClaim needs claimName" .claimName }}
{{- else if eq .kind "hostPath" -}}
hostPath:
  path: {{ required "a volume of kind hostPath needs path" .path }}
  type: Directory
{{- else if .sizeLimit -}}
emptyDir:
  sizeLimit: {{ .sizeLimit }}
{{- else -}}
emptyDir: {}
{{- end -}}
{{- end -}}

{{- define "triton-router.configMap" -}}
{{- default (include "triton-router.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{- define "triton-router.vllmName" -}}
{{- printf "%s-%s" (include "triton-router.fullname" (index . 0)) (index . 1) | lower | replace "." "-" | replace "/" "-" | replace "_" "-" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "triton-router.vllmComponent" -}}
{{- printf "vllm-%s" (. | lower | replace "." "-" | replace "/" "-" | replace "_" "-") | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "triton-router.tritonEndpoint" -}}
{{- if .Values.triton.enabled -}}
{{ include "triton-router.fullname" . }}-triton:8001
{{- else -}}
{{ required "without triton.enabled, triton.endpoint says where a Triton is" .Values.triton.endpoint }}
{{- end -}}
{{- end -}}

{{/*
The router's configuration, as YAML: the file, the values over it, and over both what the manifests rely on. Models that
the chart serves itself get its Services as their backends.
*/}}
{{- define "triton-router.config" -}}
{{- $config := dict -}}
{{- if .Values.configFile -}}
{{- $text := .Files.Get (printf "configs/%s" .Values.configFile) -}}
{{- if not $text -}}{{- fail (printf "the chart has no configs/%s" .Values.configFile) -}}{{- end -}}
{{- $config = fromYaml $text -}}
{{- end -}}
{{- $config = mustMergeOverwrite $config (deepCopy .Values.config) -}}
{{- $fullname := include "triton-router.fullname" . -}}
{{- $root := . -}}
{{- if hasKey $config "providers" -}}
{{- range $index, $model := $config.providers.models -}}
{{- if $root.Values.demoBackends.enabled -}}
{{- $_ := set $model "backend_refs" (list (dict "endpoint" (printf "%s-demo:%d" $fullname (add 8101 $index)))) -}}
{{- else -}}
{{- range $server := $root.Values.vllm.servers -}}
{{- if eq $server.name $model.name -}}
{{- $_ := set $model "backend_refs" (list (dict "endpoint" (printf "%s:8000" (include "triton-router.vllmName" (list $root $server.name))))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own := eq .Values.gateway.kind "envoyProxy" -}}
{{- $api := dict "host" "127.0.0.1" "port" 8080 -}}
{{- if .Values.router.api.tokenSecret.name -}}
{{- $api = dict "host" "0.0.0.0" "port" 8080 "token_env" "ROUTER_API_TOKEN" -}}
{{- end -}}
{{- $extproc := dict "host" "0.0.0.0" "port" 50051 -}}
{{- if .Values.router.tls.secretName -}}
{{- $tls := dict "cert_file" "/tls/tls.crt" "key_file" "/tls/tls.key" -}}
{{- if .Values.router.tls.clientAuthentication -}}
{{- $_ := set $tls "client_ca_file" "/tls/ca.crt" -}}
{{- end -}}
{{- $_ := set $extproc "tls" $tls -}}
{{- $_ := set $extproc "health_port" 50151 -}}
{{- end -}}
{{- $services := dict "api" $api "extproc" $extproc "observability" (dict "metrics" (dict "enabled" true "host" "0.0.0.0" "port" 9190)) -}}
{{- if $own -}}
{{- $_ := set $services "envoy" (dict "host" "0.0.0.0" "port" 10080 "admin_port" 9901 "failure_mode_allow" .Values.gateway.failOpen "max_heap_bytes" (.Values.gateway.envoy.maxHeapBytes | int64) "concurrency" (.Values.gateway.envoy.concurrency | int)) -}}
{{- end -}}
{{- $global := dict "services" $services "inference" (dict "endpoint" (include "triton-router.tritonEndpoint" .)) "router" (dict "drain_seconds" .Values.router.drainSeconds) -}}
{{- $cache := dict -}}
{{- if ne .Values.cache.backend "memory" -}}
{{- $store := dict -}}
{{- $url := required "cache.url says where the cache's server is" .Values.cache.url -}}
{{- if eq .Values.cache.backend "redis" -}}
{{- $_ := set $store "url" $url -}}
{{- if .Values.cache.passwordSecret.name -}}{{- $_ := set $store "password" "${CACHE_PASSWORD}" -}}{{- end -}}
{{- else -}}
{{- $_ := set $store "uri" $url -}}
{{- if .Values.cache.passwordSecret.name -}}{{- $_ := set $store "token" "${CACHE_PASSWORD}" -}}{{- end -}}
{{- end -}}
{{- $cache = dict "backend_type" .Values.cache.backend .Values.cache.backend $store -}}
{{- end -}}
{{- if .Values.cache.hmacSecret.name -}}{{- $_ := set $cache "secret" "${CACHE_HMAC_SECRET}" -}}{{- end -}}
{{- if $cache -}}{{- $_ := set $global "stores" (dict "semantic_cache" $cache) -}}{{- end -}}
{{- toYaml (mustMergeOverwrite $config (dict "global" $global)) -}}
{{- end -}}
