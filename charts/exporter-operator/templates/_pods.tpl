{{/* What the pods of operator and agents have in common. */}}

{{/* Takes root and an image's values. */}}
{{- define "exporter-operator.image" -}}
{{- with coalesce .root.Values.global.imageRegistry .image.registry }}{{ . }}/{{ end }}
{{- .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ default .root.Chart.AppVersion .image.tag }}{{ end }}
{{- end }}

{{/* Head of the pod template, without versions: a chart that changes nothing of a pod must not restart it. Takes root,
component, and annotations beside those of the values. */}}
{{- define "exporter-operator.podMetadata" -}}
{{- $values := get .root.Values .component -}}
{{- $own := include "exporter-operator.selectorLabels" . | fromYaml -}}
labels:
  {{- toYaml (merge $own $values.podLabels .root.Values.commonLabels) | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a pod has beside containers and volumes. Takes root and component, and initContainers before those of the values. */}}
{{- define "exporter-operator.podSettings" -}}
{{- $values := get .root.Values .component -}}
serviceAccountName: {{ include "exporter-operator.serviceAccount" . }}
{{- with concat (default (list) .root.Values.global.imagePullSecrets) .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ kindIs "string" . | ternary . (get (kindIs "map" . | ternary . (dict)) "name") }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
{{- range $key := list "nodeSelector" "affinity" "tolerations" "topologySpreadConstraints" }}
{{- with get $values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (default (list) .initContainers) (default (list) $values.extraInitContainers) }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What a container has beside flags, ports, probes and mounts. Takes root and component. */}}
{{- define "exporter-operator.containerSettings" -}}
{{- $values := get .root.Values .component -}}
name: {{ .component }}
image: {{ include "exporter-operator.image" (dict "root" .root "image" $values.image) }}
imagePullPolicy: {{ $values.image.pullPolicy }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "exporter-operator.securityContext" . | fromYaml }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The security context of a container. Takes root and component. To look into processes of others, the agent is root with
two capabilities (a user that is not root gets none that are added), and AppArmor must not confine it: it lets nobody look
into programs that have another profile. */}}
{{- define "exporter-operator.securityContext" -}}
{{- $values := get .root.Values .component -}}
{{- $profile := dict }}
{{- if and (eq .component "agent") .root.Values.agent.processes.privileged }}
{{- $profile = dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0 "appArmorProfile" (dict "type" "Unconfined") "capabilities" (dict "add" (list "SYS_PTRACE" "DAC_READ_SEARCH")) }}
{{- end }}
{{- with merge (dict) $profile (default (dict) $values.securityContext) }}
{{- toYaml . }}
{{- end }}
{{- end }}
