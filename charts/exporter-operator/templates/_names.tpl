{{/* What the objects are called, and by which labels they are found. */}}

{{- define "exporter-operator.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* The operator's own; short enough for what is put behind it. */}}
{{- define "exporter-operator.fullname" -}}
{{- $name := include "exporter-operator.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* fullname and the component, but for the operator, which is the release's first. Takes root and component. */}}
{{- define "exporter-operator.componentName" -}}
{{- $full := include "exporter-operator.fullname" .root }}
{{- ternary $full (printf "%s-%s" $full .component) (eq .component "operator") }}
{{- end }}

{{- define "exporter-operator.namespace" -}}
{{ default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Takes root and component. */}}
{{- define "exporter-operator.serviceAccount" -}}
{{- $account := (get .root.Values .component).serviceAccount }}
{{- default (ternary (include "exporter-operator.componentName" .) "default" $account.create) $account.name }}
{{- end }}

{{/* These never change for a release: they are what selects its pods. Takes root and component. */}}
{{- define "exporter-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ ternary (include "exporter-operator.name" .root) "exporter-agent" (eq .component "operator") }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Of an object; nobody can take its own labels from it. Takes root and component. */}}
{{- define "exporter-operator.labels" -}}
{{- $own := include "exporter-operator.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "exporter-operator" -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own .root.Values.commonLabels) }}
{{- end }}

{{/* name, namespace and labels of an object. Takes root and component, and a suffix of the name. */}}
{{- define "exporter-operator.metadata" -}}
name: {{ include "exporter-operator.componentName" . }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ include "exporter-operator.namespace" .root }}
labels:
  {{- include "exporter-operator.labels" . | nindent 2 }}
{{- end }}

{{/* As metadata, for an object that has no namespace. */}}
{{- define "exporter-operator.clusterMetadata" -}}
name: {{ include "exporter-operator.componentName" . }}{{ with .suffix }}-{{ . }}{{ end }}
labels:
  {{- include "exporter-operator.labels" . | nindent 2 }}
{{- end }}

{{/* As clusterMetadata, and told from a release of the same name in another namespace. */}}
{{- define "exporter-operator.policyMetadata" -}}
name: {{ include "exporter-operator.namespace" .root }}-{{ include "exporter-operator.componentName" . }}-{{ .suffix }}
labels:
  {{- include "exporter-operator.labels" . | nindent 2 }}
{{- end }}

{{/* The name by which agents know the operator, whatever its address is. */}}
{{- define "exporter-operator.serverName" -}}
{{ printf "%s.%s.svc" (include "exporter-operator.fullname" .) (include "exporter-operator.namespace" .) }}
{{- end }}

{{/* The name by which those who scrape know every agent. */}}
{{- define "exporter-operator.agentServerName" -}}
{{ include "exporter-operator.componentName" (dict "root" . "component" "agent") }}.{{ include "exporter-operator.namespace" . }}.svc
{{- end }}

{{/* The Secret with the certificate for that name. */}}
{{- define "exporter-operator.agentCertificate" -}}
{{ include "exporter-operator.componentName" (dict "root" . "component" "agent") }}-tls
{{- end }}

{{/* Where agents find the operator. */}}
{{- define "exporter-operator.address" -}}
{{- $service := printf "https://%s:%v" (include "exporter-operator.serverName" .) .Values.operator.service.port }}
{{- default $service .Values.agent.operatorAddress }}
{{- end }}

{{/* The ConfigMap and the Secret that the operator makes. */}}
{{- define "exporter-operator.ca" -}}
{{ include "exporter-operator.fullname" . }}-ca
{{- end }}
