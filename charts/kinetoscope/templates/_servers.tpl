{{- /* Placement of a server: nodeSelector and tolerations of its settings. */ -}}
{{- define "kinetoscope.serverPlacement" -}}
{{- with .nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{ end -}}
{{- with .tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Spec of a volume claim. Takes persistence (settings), accessMode. */ -}}
{{- define "kinetoscope.claimSpec" -}}
accessModes: [{{ .accessMode }}]
{{- with .persistence.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .persistence.size }}
{{- end -}}
