{{- /* Settings that make no sense together: each message names the keys and a remedy. */ -}}
{{- define "kinetoscope.checks" -}}
{{- include "kinetoscope.checkLogin" (dict "key" "objectStore.endpoint" "url" .Values.objectStore.endpoint "secret" "objectStore.existingSecret") -}}
{{- include "kinetoscope.checkLogin" (dict "key" "mlflow.externalUri" "url" .Values.mlflow.externalUri "secret" "mlflow.auth.existingSecret") -}}
{{- include "kinetoscope.checkStore" .Values.objectStore -}}
{{- include "kinetoscope.checkDevStore" .Values.objectStore -}}
{{- include "kinetoscope.checkMlflow" .Values.mlflow -}}
{{- include "kinetoscope.checkMlflowReplicas" .Values.mlflow -}}
{{- include "kinetoscope.checkNamespaces" .Values.runNamespaces -}}
{{- end -}}

{{- /* Not the schema's work, whose message would repeat the password. */ -}}
{{- define "kinetoscope.checkLogin" -}}
{{- if contains "@" .url -}}
{{- fail (printf "%s holds a user or a password: leave them out and name a Secret in %s" .key .secret) -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.checkStore" -}}
{{- if and .endpoint .devStore.enabled -}}
{{- fail "objectStore.endpoint and objectStore.devStore.enabled are both set: leave objectStore.endpoint empty to use the development store, or disable objectStore.devStore" -}}
{{- end -}}
{{- if not (or .endpoint .devStore.enabled) -}}
{{- fail "there is no object store: set objectStore.endpoint to the URL of an S3 endpoint, or objectStore.devStore.enabled to true" -}}
{{- end -}}
{{- if and .existingSecret .generateCredentials -}}
{{- fail "objectStore.existingSecret and objectStore.generateCredentials are both set: keep one" -}}
{{- end -}}
{{- if not (or .existingSecret .generateCredentials) -}}
{{- fail "there are no S3 keys: set objectStore.existingSecret to the name of a Secret that holds them, or, with the development store, objectStore.generateCredentials to true" -}}
{{- end -}}
{{- if eq .secretKeys.accessKey .secretKeys.secretKey -}}
{{- fail (printf "objectStore.secretKeys.accessKey and objectStore.secretKeys.secretKey are both %s: name two keys of the Secret" .secretKeys.accessKey) -}}
{{- end -}}
{{- /* Kubeflow Pipelines names a volume of a step after what is in it. */ -}}
{{- if and .existingSecret (eq .existingSecret .ca.existingConfigMap) -}}
{{- fail (printf "objectStore.existingSecret and objectStore.ca.existingConfigMap are both %s: a step's pod can't have two volumes of one name, rename one of them" .existingSecret) -}}
{{- end -}}
{{- range $key, $name := dict "objectStore.existingSecret" .existingSecret "objectStore.ca.existingConfigMap" .ca.existingConfigMap -}}
{{- if or (contains "." $name) (gt (len $name) 63) (eq $name "workspace") -}}
{{- fail (printf "%s is %s, which can't be the name of a volume in a step's pod: give it one of at most 63 characters without dots, and not workspace" $key $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.checkDevStore" -}}
{{- if and .generateCredentials (not .devStore.enabled) -}}
{{- fail "objectStore.generateCredentials makes keys for objectStore.devStore only, which is not enabled: set objectStore.existingSecret to a Secret with the keys of your endpoint" -}}
{{- end -}}
{{- if and .devStore.enabled .ca.existingConfigMap -}}
{{- fail "objectStore.ca.existingConfigMap is set, but objectStore.devStore speaks plain HTTP: clear objectStore.ca.existingConfigMap" -}}
{{- end -}}
{{- if and .devStore.enabled (eq .addressing "virtual") -}}
{{- fail "objectStore.addressing is virtual, but objectStore.devStore has no host name for the bucket: set objectStore.addressing to auto or path" -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.checkMlflow" -}}
{{- if and .enabled .externalUri -}}
{{- fail "mlflow.externalUri is set, but mlflow.enabled is true: set mlflow.enabled to false to use your own server, or clear mlflow.externalUri" -}}
{{- end -}}
{{- if not (or .enabled .externalUri) -}}
{{- fail "there is no MLflow server: set mlflow.externalUri to the URL of yours, or mlflow.enabled to true" -}}
{{- end -}}
{{- if and .enabled .auth.existingSecret -}}
{{- fail "mlflow.auth.existingSecret is set, but the chart's own server asks for no login: clear it, or use mlflow.externalUri with mlflow.enabled=false" -}}
{{- end -}}
{{- if and .enabled (ne .database.kind "sqlite") (not .database.existingSecret) -}}
{{- fail (printf "mlflow.database.kind is %s: set mlflow.database.existingSecret to the name of a Secret whose key %s holds the database's URI" .database.kind .database.uriKey) -}}
{{- end -}}
{{- if and .enabled (eq .database.kind "sqlite") .database.existingSecret -}}
{{- fail "mlflow.database.existingSecret is set, but mlflow.database.kind is sqlite: set mlflow.database.kind to postgresql or mysql, or clear the Secret's name" -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.checkMlflowReplicas" -}}
{{- if and .enabled (gt (int .replicas) 1) -}}
{{- if eq .database.kind "sqlite" -}}
{{- fail (printf "mlflow.replicas is %d, but a sqlite file takes one server: set mlflow.database.kind to postgresql or mysql, or mlflow.replicas to 1" (int .replicas)) -}}
{{- end -}}
{{- if and (eq .artifacts.kind "volume") (ne .persistence.accessMode "ReadWriteMany") -}}
{{- fail (printf "mlflow.replicas is %d, but the artifacts are on a volume of one node: set mlflow.artifacts.kind to objectStore, or mlflow.persistence.accessMode to ReadWriteMany" (int .replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kinetoscope.checkNamespaces" -}}
{{- $names := list -}}
{{- range . -}}
{{- if has .name $names -}}
{{- fail (printf "runNamespaces names %s twice: keep one entry" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
