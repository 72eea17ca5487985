{{/* Names are fixed: a cluster has one meshd, as a node has one /run/meshd. */}}
{{- define "meshd.selector" -}}
app.kubernetes.io/name: meshd
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Takes (list context component). */}}
{{- define "meshd.labels" -}}
{{- $root := first . -}}
{{ include "meshd.selector" (last .) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Takes (list context component). */}}
{{- define "meshd.metadata" -}}
{{- $root := first . -}}
name: meshd-{{ last . }}
namespace: {{ $root.Release.Namespace }}
labels: {{- include "meshd.labels" . | nindent 2 }}
{{- end }}

{{- define "meshd.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- define "meshd.imagePullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "meshd.control.host" -}}
meshd-control.{{ .Release.Namespace }}.svc
{{- end }}

{{/* The secret with the control plane's certificate and key. */}}
{{- define "meshd.control.secret" -}}
{{ .Values.control.tls.existingSecret | default "meshd-control-tls" }}
{{- end }}

{{/* The volume with the CA that agents believe, as ca.crt. */}}
{{- define "meshd.authority" -}}
{{- if .Values.control.tls.existingSecret -}}
secret:
  secretName: {{ .Values.control.tls.existingSecret }}
  items:
    - key: ca.crt
      path: ca.crt
{{- else -}}
configMap:
  name: meshd-control-ca
{{- end }}
{{- end }}

{{/* What a container without rights has. */}}
{{- define "meshd.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
