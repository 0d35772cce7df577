{{/* The router's address for Envoy, as a full name. */}}
{{- define "triton-router.host" -}}
{{ include "triton-router.fullname" . }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end -}}

{{/* Longer than all of the router's own timeouts, so the router decides before Envoy gives up. */}}
{{- define "triton-router.messageTimeout" -}}
{{- $deadline := dig "global" "inference" "deadline_ms" 1000 (include "triton-router.config" . | fromYaml) -}}
{{ printf "%ds" (add 4 (ceil (divf $deadline 1000) | int)) }}
{{- end -}}

{{/* Envoy's buffer limits the request body. 10 MiB is the router's default. */}}
{{- define "triton-router.maxBody" -}}
{{ dig "global" "router" "max_body_bytes" 10485760 (include "triton-router.config" . | fromYaml) | int64 }}
{{- end -}}

{{/* Takes (list $ "cluster"). */}}
{{- define "triton-router.extProcFilter" -}}
{{- $root := index . 0 -}}
name: envoy.filters.http.ext_proc/triton-router
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
  failure_mode_allow: {{ $root.Values.gateway.failOpen }}
  message_timeout: {{ include "triton-router.messageTimeout" $root }}
  # The router requests a body when it needs one: a stream's as it passes, most responses' never.
  allow_mode_override: true
  processing_mode:
    request_header_mode: SEND
    request_body_mode: BUFFERED
    request_trailer_mode: SKIP
    response_header_mode: SEND
    response_body_mode: NONE
    response_trailer_mode: SKIP
  grpc_service:
    envoy_grpc:
      cluster_name: {{ index . 1 | quote }}
      authority: {{ include "triton-router.host" $root }}:50051
    # If a pod terminates, the same request goes to another pod, before any decision was made.
    retry_policy:
      num_retries: 3
      retry_on: connect-failure,reset,refused-stream,unavailable,cancelled
      retry_back_off:
        base_interval: 0.01s
        max_interval: 0.05s
      # A refusing pod has the fewest requests, so Envoy keeps selecting it: five attempts are too few.
      host_selection_retry_max_attempts: 30
      retry_host_predicate:
        - name: envoy.retry_host_predicates.previous_hosts
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate
{{- end -}}

{{/* Headers that only the gateway may set are removed before the first route match. A filter would be too late. */}}
{{- define "triton-router.strippedHeaders" -}}
- name: envoy.http.early_header_mutation.header_mutation
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
    mutations:
      - remove: x-selected-model
      - remove: x-gateway-base-model-name
      - remove: x-vsr-selected-model
      - remove: x-vsr-selected-decision
      - remove: x-vsr-selected-category
      - remove: x-vsr-selected-confidence
      - remove: x-vsr-selected-reasoning
      {{- range .Values.gateway.strippedHeaders }}
      - remove: {{ . }}
      {{- end }}
{{- end -}}

{{- define "triton-router.extProcCluster" -}}
{{- $name := printf "%s-extproc" (include "triton-router.fullname" .) -}}
name: {{ $name }}
type: STRICT_DNS
connect_timeout: 1s
# Every pod of the headless Service; pods that DNS no longer lists get no new requests.
dns_lookup_family: V4_PREFERRED
ignore_health_on_host_removal: true
lb_policy: LEAST_REQUEST
common_lb_config:
  # By default Envoy batches endpoint changes for a second before its threads see them. They would try a pod
  # that has just gone and miss one that has just returned. So few pods need no batching.
  update_merge_window: 0s
circuit_breakers:
  thresholds:
    # The default of 1024 streams is below the number of concurrent responses, and 3 retries are too few.
    - max_connections: 1000000
      max_pending_requests: 1000000
      max_requests: 1000000
      max_retries: 1000
outlier_detection:
  split_external_local_origin_errors: true
  consecutive_local_origin_failure: 1
  interval: 0.5s
  base_ejection_time: 3s
  max_ejection_percent: 70
health_checks:
  - timeout: 1s
    interval: 1s
    # Without this, a gateway without traffic checks once a minute.
    no_traffic_interval: 1s
    # Tolerates late responses from a busy node. NOT_SERVING counts at once, and refusing pods are ejected.
    unhealthy_threshold: 3
    healthy_threshold: 1
    grpc_health_check: {}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config:
      http2_protocol_options: {}
load_assignment:
  cluster_name: {{ $name }}
  endpoints:
    - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: {{ include "triton-router.host" . }}
                port_value: 50051
{{- if .Values.router.tls.secretName }}
transport_socket:
  name: envoy.transport_sockets.tls
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
    sni: {{ include "triton-router.host" . }}
    common_tls_context:
      alpn_protocols: [h2]
      # Files of the gateway's own pods: mount the Secret there (EnvoyProxy, `envoyDeployment.pod.volumes`).
      {{- if .Values.router.tls.clientAuthentication }}
      tls_certificates:
        - certificate_chain: {filename: /triton-router-tls/tls.crt}
          private_key: {filename: /triton-router-tls/tls.key}
      {{- end }}
      validation_context:
        trusted_ca: {filename: /triton-router-tls/ca.crt}
        match_typed_subject_alt_names:
          - san_type: DNS
            matcher: {exact: {{ include "triton-router.host" . }}}
{{- end }}
{{- end -}}

{{/* SERVICE.NAMESPACE….:PORT as a reference. Takes (list $ "endpoint" weight). */}}
{{- define "triton-router.backendRef" -}}
{{- $host := regexReplaceAll ":[0-9]+$" (index . 1) "" -}}
{{- $words := splitList "." $host -}}
name: {{ first $words }}
{{- if gt (len $words) 1 }}
namespace: {{ index $words 1 }}
{{- end }}
port: {{ regexFind "[0-9]+$" (index . 1) }}
weight: {{ index . 2 }}
{{- end -}}
