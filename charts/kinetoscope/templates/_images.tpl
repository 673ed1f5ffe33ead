{{- /* Reference of an image. Takes root and the image's key below images. */ -}}
{{- define "kinetoscope.image" -}}
{{- $image := get .root.Values.images .key -}}
{{- $name := printf "%s/%s" (default .root.Values.images.registry $image.registry) $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.pullSecrets" -}}
{{- with .Values.images.pullSecrets -}}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
