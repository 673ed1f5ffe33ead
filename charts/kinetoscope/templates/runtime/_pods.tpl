{{- /* Pieces of the pods that runs start: training pods, the probe, the test. */ -}}

{{- define "kinetoscope.runEnvFrom" -}}
- configMapRef:
    name: {{ include "kinetoscope.fullname" . }}-environment
{{- end -}}

{{- define "kinetoscope.runMounts" -}}
- name: shm
  mountPath: /dev/shm
- name: tmp
  mountPath: /tmp
- name: workspace
  mountPath: /workspace
{{ include "kinetoscope.storeMounts" . }}
{{- end -}}

{{- define "kinetoscope.runVolumes" -}}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.training.shm.sizeLimit }}
- name: tmp
  emptyDir: {}
- name: workspace
  emptyDir:
    sizeLimit: {{ .Values.training.workspace.sizeLimit }}
{{ include "kinetoscope.storeVolumes" . }}
{{- end -}}

{{- /* What kino needs beside a pod's environment to give Kubeflow's pods of steps the same as
training pods have: names and sizes, never a secret. No pod reads them. */ -}}
{{- define "kinetoscope.stepSettings" -}}
KINO_STORE_SECRET: {{ include "kinetoscope.storeSecret" . | quote }}
KINO_STORE_SECRET_KEYS: {{ printf "%s,%s" .Values.objectStore.secretKeys.accessKey .Values.objectStore.secretKeys.secretKey | quote }}
{{- with .Values.objectStore.ca.existingConfigMap }}
KINO_STORE_CA_CONFIG_MAP: {{ . | quote }}
{{- end }}
{{- with .Values.mlflow.auth.existingSecret }}
KINO_MLFLOW_SECRET: {{ . | quote }}
KINO_MLFLOW_SECRET_KEYS: {{ include "kinetoscope.mlflowLoginKeys" $ | quote }}
{{- end }}
KINO_PULL_POLICY: {{ .Values.images.pullPolicy }}
{{- with .Values.images.pullSecrets }}
KINO_PULL_SECRETS: {{ join "," . | quote }}
{{- end }}
KINO_WORKSPACE_SIZE: {{ .Values.training.workspace.sizeLimit | quote }}
KINO_SHM_SIZE: {{ .Values.training.shm.sizeLimit | quote }}
{{- end -}}

{{- /* Spec of the probe's pod. Takes root, serviceAccount (empty: the namespace's default). */ -}}
{{- define "kinetoscope.probePod" -}}
{{- with .serviceAccount -}}
serviceAccountName: {{ . }}
{{ end -}}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: Never
activeDeadlineSeconds: 600
{{- with include "kinetoscope.pullSecrets" .root }}
{{ . }}
{{- end }}
securityContext:
  {{- include "kinetoscope.podSecurity" .root | nindent 2 }}
containers:
  - name: probe
    image: {{ include "kinetoscope.image" (dict "root" .root "key" "controlPlane") }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    command: [python, -m, kinetoscope.doctor.pod]
    envFrom:
      {{- include "kinetoscope.runEnvFrom" .root | nindent 6 }}
    {{- with include "kinetoscope.mlflowLogin" .root }}
    env:
      {{- . | trim | nindent 6 }}
    {{- end }}
    resources:
      requests: {cpu: 50m, memory: 256Mi}
      limits: {memory: 1Gi}
    securityContext:
      {{- include "kinetoscope.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      {{- include "kinetoscope.runMounts" .root | nindent 6 }}
volumes:
  {{- include "kinetoscope.runVolumes" .root | nindent 2 }}
{{- end -}}

{{- /* Spec of a training pod. Takes root, image (key below images). */ -}}
{{- define "kinetoscope.trainingPod" -}}
{{- $training := .root.Values.training -}}
serviceAccountName: {{ include "kinetoscope.fullname" .root }}-training
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: Never
terminationGracePeriodSeconds: {{ $training.graceSeconds }}
{{- with include "kinetoscope.pullSecrets" .root }}
{{ . }}
{{- end }}
{{- include "kinetoscope.trainingPlacement" .root }}
securityContext:
  {{- include "kinetoscope.podSecurity" .root | nindent 2 }}
containers:
  - name: node
    image: {{ include "kinetoscope.image" (dict "root" .root "key" .image) }}
    imagePullPolicy: {{ .root.Values.images.pullPolicy }}
    ports:
      - name: metrics
        containerPort: {{ $training.metricsPort }}
    envFrom:
      {{- include "kinetoscope.runEnvFrom" .root | nindent 6 }}
    env:
      # Over restarts pods of a job keep their host name: this tells a living holder of a lease from a dead one.
      - name: KINO_POD_UID
        valueFrom: {fieldRef: {fieldPath: metadata.uid}}
      # How often all pods of the job have been made anew: ranks of two such launches never train together.
      - name: KINO_LAUNCH_ID
        valueFrom: {fieldRef: {fieldPath: "metadata.labels['jobset.sigs.k8s.io/restart-attempt']"}}
      # The supervisor looks for it, and then does as after a SIGTERM.
      - name: KINO_STOP_FILE
        value: /tmp/kino-stop
      {{- with include "kinetoscope.mlflowLogin" .root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $training.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    # A SIGTERM to a first process that has no handler for it yet is lost; this is not.
    lifecycle:
      preStop:
        exec:
          command: [touch, /tmp/kino-stop]
    resources:
      {{- toYaml $training.resources | nindent 6 }}
    securityContext:
      {{- include "kinetoscope.containerSecurity" .root | nindent 6 }}
    volumeMounts:
      {{- include "kinetoscope.runMounts" .root | nindent 6 }}
      {{- with $training.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "kinetoscope.runVolumes" .root | nindent 2 }}
  {{- with $training.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* Where training pods go, and how soon they leave a lost node (Kubernetes' default is 300 s). */ -}}
{{- define "kinetoscope.trainingPlacement" }}
{{- with .Values.training }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
{{- $seconds := .unreachableSeconds }}
{{- range list "not-ready" "unreachable" }}
  - key: node.kubernetes.io/{{ . }}
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $seconds }}
{{- end }}
  {{- with .tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if .topologySpread }}
topologySpreadConstraints:
{{- $selector := include "kinetoscope.selectorLabels" (dict "root" $ "component" "training") }}
{{- range .topologySpread }}
  - {{ toYaml . | indent 4 | trim }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
