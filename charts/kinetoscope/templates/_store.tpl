{{- /* The object store and MLflow as pods see them. */ -}}

{{- define "kinetoscope.storeUri" -}}
{{- printf "s3://%s/%s" .Values.objectStore.bucket (trimAll "/" .Values.objectStore.prefix) | trimSuffix "/" -}}
{{- end -}}

{{- define "kinetoscope.storeEndpoint" -}}
{{- if .Values.objectStore.devStore.enabled -}}
{{- printf "http://%s-s3.%s.svc:9000" (include "kinetoscope.fullname" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.objectStore.endpoint -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.storeSecret" -}}
{{- default (printf "%s-object-store" (include "kinetoscope.fullname" .)) .Values.objectStore.existingSecret -}}
{{- end -}}

{{- /* Named as in the ConfigMap: a step's volume of Kubeflow Pipelines can rename nothing. */ -}}
{{- define "kinetoscope.storeCaFile" -}}
{{- with .Values.objectStore.ca -}}
{{- if .existingConfigMap -}}/etc/kinetoscope/object-store-ca/{{ .key }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.credentialsPath" -}}/var/run/secrets/kinetoscope/object-store{{- end -}}

{{- define "kinetoscope.storeEnvironment" -}}
KINO_STORE_URI: {{ include "kinetoscope.storeUri" . | quote }}
KINO_S3_ENDPOINT: {{ include "kinetoscope.storeEndpoint" . | quote }}
KINO_S3_REGION: {{ .Values.objectStore.region | quote }}
KINO_S3_ADDRESSING: {{ .Values.objectStore.addressing | quote }}
KINO_S3_CREDENTIALS_PATH: {{ include "kinetoscope.credentialsPath" . | quote }}
{{- with include "kinetoscope.storeCaFile" . }}
KINO_S3_CA_FILE: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "kinetoscope.storeMounts" -}}
- name: object-store
  mountPath: {{ include "kinetoscope.credentialsPath" . }}
  readOnly: true
{{- if .Values.objectStore.ca.existingConfigMap }}
- name: object-store-ca
  mountPath: {{ include "kinetoscope.storeCaFile" . | dir }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "kinetoscope.storeVolumes" -}}
- name: object-store
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ include "kinetoscope.storeSecret" . }}
          items:
            - key: {{ .Values.objectStore.secretKeys.accessKey }}
              path: access_key
            - key: {{ .Values.objectStore.secretKeys.secretKey }}
              path: secret_key
{{- with .Values.objectStore.ca }}
{{- if .existingConfigMap }}
- name: object-store-ca
  configMap:
    name: {{ .existingConfigMap }}
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "kinetoscope.mlflowUri" -}}
{{- if .Values.mlflow.enabled -}}
{{- printf "http://%s-mlflow.%s.svc:5000" (include "kinetoscope.fullname" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.mlflow.externalUri -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.mlflowLoginKeys" -}}
{{- eq .Values.mlflow.auth.kind "token" | ternary "token" "username,password" -}}
{{- end -}}

{{- /* The login of an MLflow that asks for one, as environment variables: MLflow reads nothing else. */ -}}
{{- define "kinetoscope.mlflowLogin" -}}
{{- $secret := .Values.mlflow.auth.existingSecret -}}
{{- if $secret -}}
{{- range include "kinetoscope.mlflowLoginKeys" . | splitList "," }}
- name: MLFLOW_TRACKING_{{ upper . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end -}}
{{- end -}}
