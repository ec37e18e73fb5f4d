{{/* A monitor is the same for Services and for pods but for two words. */}}

{{/* The kind that is wanted and can be installed; nothing where there is none. */}}
{{- define "exporter-operator.monitorKind" -}}
{{- $service := .Values.monitoring.serviceMonitor.enabled }}
{{- $pod := .Values.monitoring.podMonitor.enabled }}
{{- if and $service $pod }}
{{- fail "monitoring.serviceMonitor.enabled and monitoring.podMonitor.enabled: only one of them, or everything is scraped twice" }}
{{- end }}
{{- $kind := $service | ternary "ServiceMonitor" ($pod | ternary "PodMonitor" "") }}
{{- if and $kind (.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind)) }}
{{- $kind }}
{{- end }}
{{- end }}

{{/* A monitor of one component. Takes root, component, kind and the parts: name, port, path, honorLabels, relabelings. */}}
{{- define "exporter-operator.monitor" -}}
{{- $monitoring := .root.Values.monitoring }}
{{- $isService := eq .kind "ServiceMonitor" -}}
{{- $connection := include "exporter-operator.monitorConnection" . | fromYaml -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ .kind }}
metadata:
  name: {{ include "exporter-operator.componentName" . }}
  namespace: {{ default (include "exporter-operator.namespace" .root) $monitoring.namespace }}
  labels:
    {{- include "exporter-operator.labels" . | fromYaml | merge (dict) $monitoring.additionalLabels | toYaml | nindent 4 }}
  {{- with $monitoring.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $monitoring.jobLabel }}
  jobLabel: {{ . }}
  {{- end }}
  {{- with $monitoring.targetLabels }}
  {{- if $isService }}
  targetLabels:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $monitoring.podTargetLabels }}
  podTargetLabels:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $monitoring.attachNodeMetadata }}
  attachMetadata:
    node: true
  {{- end }}
  {{- with $monitoring.limits }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "exporter-operator.selectorLabels" . | nindent 6 }}
  namespaceSelector:
    matchNames:
      - {{ include "exporter-operator.namespace" .root }}
  {{ $isService | ternary "endpoints" "podMetricsEndpoints" }}:
    {{- range .parts }}
    {{- $part := get $monitoring.parts .name }}
    {{- if $part.enabled }}
    - port: {{ .port }}
      path: {{ .path }}
      {{- with $connection }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with coalesce $part.interval $monitoring.interval }}
      interval: {{ . }}
      {{- end }}
      {{- with coalesce $part.scrapeTimeout $monitoring.scrapeTimeout }}
      scrapeTimeout: {{ . }}
      {{- end }}
      honorLabels: {{ .honorLabels }}
      {{- with concat .relabelings (include "exporter-operator.monitorJob" $part.job | fromYamlArray) $part.relabelings }}
      relabelings:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $part.metricRelabelings }}
      metricRelabelings:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- end }}
{{- end }}

{{/* How Prometheus connects to a component, and what it shows there. Takes root, component and kind. */}}
{{- define "exporter-operator.monitorConnection" -}}
{{- $protection := .root.Values.agent.metrics.protection }}
{{- $credentials := .root.Values.monitoring.credentials }}
{{- if and (eq .component "agent") (ne $protection "none") }}
{{- $namespace := .root.Values.monitoring.namespace }}
{{- if and $namespace (ne $namespace (include "exporter-operator.namespace" .root)) (not $credentials.caConfigMap) }}
{{- fail "agent.metrics.protection and monitoring.namespace: copy the ConfigMap of the authority to that namespace and set monitoring.credentials.caConfigMap" }}
{{- end }}
scheme: https
tlsConfig:
  ca:
    configMap:
      name: {{ default (include "exporter-operator.ca" .root) $credentials.caConfigMap }}
      key: ca.crt
  serverName: {{ include "exporter-operator.agentServerName" .root }}
  {{- if eq $protection "clientCertificate" }}
  {{- $secret := required "agent.metrics.protection is clientCertificate: set monitoring.credentials.certificateSecret" $credentials.certificateSecret }}
  cert:
    secret:
      name: {{ $secret }}
      key: tls.crt
  keySecret:
    name: {{ $secret }}
    key: tls.key
  {{- end }}
{{- if eq $protection "bearer" }}
{{- if $credentials.tokenSecret.name }}
authorization:
  credentials:
    name: {{ $credentials.tokenSecret.name }}
    key: {{ $credentials.tokenSecret.key }}
{{- else if eq .kind "ServiceMonitor" }}
bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- else }}
{{- fail "agent.metrics.protection is bearer and monitoring.podMonitor.enabled: set monitoring.credentials.tokenSecret.name" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "exporter-operator.monitorJob" -}}
{{- with . }}
- {targetLabel: job, replacement: {{ . | quote }}}
{{- end }}
{{- end }}
