{{- /* What is selected by; never changes for a release. */ -}}
{{- define "weightd.selector" -}}
app.kubernetes.io/name: weightd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weightd.labels" -}}
{{ include "weightd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "weightd.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "weightd.priorityClass" -}}
{{ .Values.priorityClass.name | default .Release.Name }}
{{- end }}

{{- /* All of weightd.yaml but the list of models, which a running daemon reads again. */ -}}
{{- define "weightd.settings" -}}
socket_dir: /run/weightd
host:
  budget: {{ int .Values.cacheGiB }}GiB
listeners:
  {{- toYaml .Values.listeners | nindent 2 }}
{{- if .Values.keeper.enabled }}
keeper_dir: /run/weightd/keeper
{{- end }}
{{- if .Values.metrics.enabled }}
metrics:
  address: 0.0.0.0:{{ int .Values.metrics.port }}
{{- end }}
{{- with .Values.config }}
{{ toYaml . }}
{{- end }}
{{- end }}
