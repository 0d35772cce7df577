{{/* The router's container, alone in its pod or with an Envoy. */}}
{{- define "triton-router.routerContainer" -}}
{{- $own := eq .Values.gateway.kind "envoyProxy" -}}
{{- $health := ternary 50151 50051 (not (empty .Values.router.tls.secretName)) -}}
name: router
image: {{ include "triton-router.image" (list . "router" "") }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
args:
  - serve
  - --config=/etc/triton-router/config.yaml
  - --state-directory=/var/lib/triton-router
  {{- if $own }}
  - --envoy-directory=/envoy
  {{- end }}
{{- if $own }}
# Starts before Envoy, because it writes Envoy's files, and ends after it, because Envoy depends on it.
restartPolicy: Always
{{- end }}
env:
  # BLAS sees the node's cores, not the container's limit: two threads are enough for one vector.
  - name: OMP_NUM_THREADS
    value: "2"
  {{- with .Values.router.api.tokenSecret }}
  {{- if .name }}
  - name: ROUTER_API_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
  {{- end }}
  {{- end }}
  {{- with .Values.cache.passwordSecret }}
  {{- if .name }}
  - name: CACHE_PASSWORD
    valueFrom:
      secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
  {{- end }}
  {{- end }}
  {{- with .Values.cache.hmacSecret }}
  {{- if .name }}
  - name: CACHE_HMAC_SECRET
    valueFrom:
      secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
  {{- end }}
  {{- end }}
  {{- with .Values.router.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: grpc-extproc
    containerPort: 50051
  {{- if .Values.router.tls.secretName }}
  - name: grpc-health
    containerPort: 50151
  {{- end }}
  {{- if .Values.router.api.tokenSecret.name }}
  - name: http-rest
    containerPort: 8080
  {{- end }}
  - name: http-metrics
    containerPort: 9190
# It listens about a second after its start, with or without Triton. It downloads nothing.
startupProbe:
  grpc: {port: {{ $health }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 30
# For starting and hanging pods: 15 s without a response. Deleting a pod removes its address at once, and Envoy has its own
# health checks, retries and ejection. With the default timeout of one second, one late response would move a busy pod's
# load to the others, and in the end remove all of them from DNS.
readinessProbe:
  grpc: {port: {{ $health }}}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
# The event loop responds, and at least one of several workers must serve. The endpoint responds until the last stream
# has ended, so a draining pod does not look dead.
livenessProbe:
  httpGet: {path: /live, port: http-metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- if not $own }}
lifecycle:
  preStop:
    # The gateway uses the old addresses for a while. The pod keeps serving meanwhile.
    sleep: {seconds: {{ .Values.router.leaveSeconds }}}
{{- end }}
resources:
  {{- toYaml .Values.router.resources | nindent 2 }}
securityContext:
  {{- include "triton-router.containerSecurity" . | nindent 2 }}
volumeMounts:
  # The whole directory: a file mounted by subPath never updates.
  - {name: config, mountPath: /etc/triton-router, readOnly: true}
  - {name: state, mountPath: /var/lib/triton-router}
  - {name: tmp, mountPath: /tmp}
  {{- if $own }}
  - {name: envoy, mountPath: /envoy}
  {{- end }}
  {{- if .Values.router.tls.secretName }}
  - {name: tls, mountPath: /tls, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "triton-router.envoyContainer" -}}
name: envoy
image: {{ include "triton-router.image" (list . "envoy" "") }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
command: [envoy]
args:
  - --config-path
  - /envoy/bootstrap.json
  - --reject-unknown-dynamic-fields
  - --disable-hot-restart
  - --concurrency
  - {{ .Values.gateway.envoy.concurrency | quote }}
  - --log-level
  - warning
  # While it drains, every response asks its client to reconnect, elsewhere.
  - --drain-strategy
  - immediate
  - --drain-time-s
  - {{ .Values.gateway.envoy.leaveSeconds | quote }}
ports:
  - {name: http-gateway, containerPort: 10080}
# Checks Envoy and the router together. A Service has no other view of a pod's health, so the probe runs often. Two late
# responses in a row are more than a busy moment.
readinessProbe:
  httpGet: {path: /health, port: http-gateway}
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  tcpSocket: {port: http-gateway}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
lifecycle:
  preStop:
    exec:
      command:
        - bash
        - -c
        - |
          ask() {
            exec 3<>/dev/tcp/127.0.0.1/9901
            printf '%s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$1" >&3
            cat <&3
            exec 3>&-
          }
          ask 'POST /drain_listeners?graceful&skip_exit' >/dev/null
          sleep "$1"
          for ((second = 0; second < $2; second++)); do
            case $(ask 'GET /stats?filter=^http.gateway.downstream_rq_active$') in
              *'downstream_rq_active: 0'*) exit 0 ;;
            esac
            sleep 1
          done
        - leave
        - {{ .Values.gateway.envoy.leaveSeconds | quote }}
        - {{ .Values.router.drainSeconds | quote }}
resources:
  {{- toYaml .Values.gateway.envoy.resources | nindent 2 }}
securityContext:
  {{- include "triton-router.containerSecurity" . | nindent 2 }}
  {{- if not (kindIs "invalid" .Values.gateway.envoy.runAsUser) }}
  runAsUser: {{ .Values.gateway.envoy.runAsUser }}
  {{- end }}
volumeMounts:
  - {name: envoy, mountPath: /envoy, readOnly: true}
{{- end -}}
