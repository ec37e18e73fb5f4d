{{/* The init container that gives a directory of the node to the agent. It is root with one capability, and sees nothing of
the node but this directory. Takes root, component and mountPath. */}}
{{- define "exporter-operator.prepareLastGood" -}}
{{- $values := .root.Values.agent -}}
{{- /* Whoever the agent runs as; the user of the image where nobody says. */}}
{{- $pod := default (dict) $values.podSecurityContext }}
{{- $container := include "exporter-operator.securityContext" . | fromYaml }}
{{- $user := dig "runAsUser" (dig "runAsUser" 65532 $pod) $container | int64 }}
{{- $group := dig "runAsGroup" (dig "runAsGroup" 65532 $pod) $container | int64 }}
name: prepare-last-good
image: {{ include "exporter-operator.image" (dict "root" .root "image" $values.image) }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args:
  - prepare-last-good
  - --path={{ .mountPath }}
  - --owner={{ $user }}:{{ $group }}
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: false
  runAsUser: 0
  runAsGroup: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
    add: [CHOWN]
# Why a directory is refused, in the status of the pod.
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: last-good
    mountPath: {{ .mountPath }}
{{- end }}
