{{- /* Whether the server keeps its database or its artifacts on the volume: "true" or "". */ -}}
{{- define "kinetoscope.mlflowOnVolume" -}}
{{- with .Values.mlflow -}}
{{- if or (eq .database.kind "sqlite") (eq .artifacts.kind "volume") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Two servers never open one sqlite file, or one volume that a single node may mount. */ -}}
{{- define "kinetoscope.mlflowStrategy" -}}
{{- $shared := eq .Values.mlflow.persistence.accessMode "ReadWriteMany" -}}
{{- if eq .Values.mlflow.database.kind "sqlite" -}}
Recreate
{{- else if and (include "kinetoscope.mlflowOnVolume" .) (not $shared) -}}
Recreate
{{- else -}}
RollingUpdate
{{- end -}}
{{- end -}}

{{- /* Names by which the server is reached; MLflow answers 403 to any other. */ -}}
{{- define "kinetoscope.mlflowHosts" -}}
{{- $service := printf "%s-mlflow" (include "kinetoscope.fullname" .) -}}
{{- $namespaced := printf "%s.%s" $service .Release.Namespace -}}
{{- $hosts := list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*" -}}
{{- range list $service $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.%s" $namespaced .Values.clusterDomain) -}}
{{- $hosts = append $hosts . -}}
{{- $hosts = append $hosts (printf "%s:5000" .) -}}
{{- end -}}
{{- concat $hosts .Values.mlflow.allowedHosts | uniq | join "," -}}
{{- end -}}

{{- define "kinetoscope.mlflowEnv" -}}
{{- $mlflow := .Values.mlflow -}}
- name: MLFLOW_BACKEND_STORE_URI
{{- if eq $mlflow.database.kind "sqlite" }}
  value: sqlite:////data/mlflow.db
{{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ $mlflow.database.existingSecret }}
      key: {{ $mlflow.database.uriKey }}
{{- end }}
- name: MLFLOW_ARTIFACTS_DESTINATION
{{- if eq $mlflow.artifacts.kind "volume" }}
  value: /data/artifacts
{{- else }}
  value: {{ include "kinetoscope.storeUri" . }}/{{ $mlflow.artifacts.folder }}
{{- range $name, $value := include "kinetoscope.storeEnvironment" . | fromYaml }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
- name: MLFLOW_SERVER_ALLOWED_HOSTS
  value: {{ include "kinetoscope.mlflowHosts" . | quote }}
- name: MLFLOW_WORKERS
  value: {{ $mlflow.workers | quote }}
- name: HOME
  value: /tmp
{{- with $mlflow.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kinetoscope.mlflowMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "kinetoscope.mlflowOnVolume" . }}
- name: data
  mountPath: /data
{{- end }}
{{- if eq .Values.mlflow.artifacts.kind "objectStore" }}
{{ include "kinetoscope.storeMounts" . }}
{{- end }}
{{- end -}}

{{- define "kinetoscope.mlflowVolumes" -}}
- name: tmp
  emptyDir: {}
{{- if include "kinetoscope.mlflowOnVolume" . }}
- name: data
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-mlflow" (include "kinetoscope.fullname" .)) .Values.mlflow.persistence.existingClaim }}
{{- end }}
{{- if eq .Values.mlflow.artifacts.kind "objectStore" }}
{{ include "kinetoscope.storeVolumes" . }}
{{- end }}
{{- end -}}

{{- /* What both containers of the pod share. Takes root, verb of kinetoscope.tracking.server. */ -}}
{{- define "kinetoscope.mlflowContainer" -}}
image: {{ include "kinetoscope.image" (dict "root" .root "key" "controlPlane") }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
command: [python, -m, kinetoscope.tracking.server, {{ .verb }}]
env:
  {{- include "kinetoscope.mlflowEnv" .root | nindent 2 }}
resources:
  {{- toYaml .root.Values.mlflow.resources | nindent 2 }}
securityContext:
  {{- include "kinetoscope.containerSecurity" .root | nindent 2 }}
volumeMounts:
  {{- include "kinetoscope.mlflowMounts" .root | nindent 2 }}
{{- end -}}
