{{- /* Names and labels. */ -}}

{{- define "kinetoscope.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 40 characters, so that the longest suffix still fits into a label. */ -}}
{{- define "kinetoscope.fullname" -}}
{{- $name := include "kinetoscope.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels by which Services, policies and monitors find pods. Takes root, component. */ -}}
{{- define "kinetoscope.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kinetoscope.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* Labels by which policies and monitors find the pods of Kubeflow's steps. kino gives them, which
knows the name of the chart's objects alone. */ -}}
{{- define "kinetoscope.stepSelectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ include "kinetoscope.fullname" . }}
app.kubernetes.io/component: step
{{- end -}}

{{- /* Labels of pods. Takes root, component, managedBy (default: what installs the chart). */ -}}
{{- define "kinetoscope.podLabels" -}}
{{ include "kinetoscope.selectorLabels" . }}
app.kubernetes.io/part-of: kinetoscope
app.kubernetes.io/managed-by: {{ default .root.Release.Service .managedBy }}
{{- with .root.Values.labels.team }}
kinetoscope.dev/team: {{ . | quote }}
{{- end }}
{{- with .root.Values.labels.project }}
kinetoscope.dev/project: {{ . | quote }}
{{- end }}
{{- with .root.Values.labels.costCenter }}
kinetoscope.dev/cost-center: {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* Labels of the chart's objects. Takes root, component. */ -}}
{{- define "kinetoscope.labels" -}}
{{ include "kinetoscope.podLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Tells whether a feature that needs a custom resource is on: "true" or "".
Takes root, key and value of the setting (auto, true, false), api (group/version/Kind), from (who brings it). */ -}}
{{- define "kinetoscope.feature" -}}
{{- $there := .root.Capabilities.APIVersions.Has .api -}}
{{- if and (eq (toString .value) "true") (not $there) -}}
{{- fail (printf "%s is true, but this cluster has no %s: install %s first, or set %s to auto or false" .key .api .from .key) -}}
{{- end -}}
{{- if and $there (ne (toString .value) "false") -}}true{{- end -}}
{{- end -}}

{{- /* Names of the release's namespace and the run namespaces, each once, as a JSON list. */ -}}
{{- define "kinetoscope.namespaces" -}}
{{- $names := list .Release.Namespace -}}
{{- range .Values.runNamespaces -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end -}}
