{{- /* Peers of a NetworkPolicy: the release's namespace and the run namespaces, and those given.
Takes root, further (names). */ -}}
{{- define "kinetoscope.userNamespaces" -}}
- podSelector: {}
- namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values:
          {{- include "kinetoscope.namespaces" .root | fromJsonArray | concat .further | uniq | toYaml | nindent 10 }}
{{- end -}}

{{- /* Peer of a NetworkPolicy: the namespace that Prometheus scrapes from, else all. */ -}}
{{- define "kinetoscope.scrapers" -}}
- namespaceSelector:
    {{- with .Values.monitoring.namespace }}
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
    {{- else }} {}
    {{- end }}
{{- end -}}
