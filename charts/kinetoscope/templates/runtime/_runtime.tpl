{{- /* Spec of a TrainingRuntime. Takes root, image (key below images). */ -}}
{{- define "kinetoscope.runtimeSpec" -}}
{{- $labels := include "kinetoscope.podLabels" (dict "root" .root "component" "training" "managedBy" "kinetoscope") -}}
mlPolicy:
  numNodes: 1
  torch: {}
template:
  metadata:
    labels:
      {{- $labels | nindent 6 }}
  spec:
    {{- include "kinetoscope.jobSetFailurePolicy" .root | nindent 4 }}
    replicatedJobs:
      - name: node
        template:
          metadata:
            labels:
              {{- $labels | nindent 14 }}
              trainer.kubeflow.org/trainjob-ancestor-step: trainer
          spec:
            {{- include "kinetoscope.jobFailurePolicy" .root | nindent 12 }}
            template:
              metadata:
                labels:
                  {{- $labels | nindent 18 }}
                {{- with include "kinetoscope.scrapeAnnotations" .root }}
                annotations:
                  {{- . | nindent 18 }}
                {{- end }}
              spec:
                {{- include "kinetoscope.trainingPod" . | nindent 16 }}
{{- end -}}

{{- /* Exit codes of a step: 2, 77 and 79 (saved, nobody waits for it any more) are final, 75 (preempted, saved) and 78 (lost a
peer, whose own end says why) restart for free, all others restart within maxRestarts. Each rule is one of its own, since the JobSet sees only the message. A
restart waits until all old pods are gone, so that two generations never train at once. */ -}}
{{- define "kinetoscope.jobFailurePolicy" -}}
backoffLimit: 0
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        containerName: node
        operator: In
        values: [2, 77, 79]
    - action: FailJob
      onExitCodes:
        containerName: node
        operator: In
        values: [75, 78]
    - action: FailJob
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
{{- end -}}

{{- define "kinetoscope.jobSetFailurePolicy" -}}
failurePolicy:
  maxRestarts: {{ .Values.training.maxRestarts }}
  restartStrategy: BlockingRecreate
  rules:
    - name: final
      action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
      onJobFailureMessagePatterns: ["exit code (2|77|79) "]
    - name: free
      action: RestartJobSetAndIgnoreMaxRestarts
      onJobFailureReasons: [PodFailurePolicy]
      onJobFailureMessagePatterns: ["exit code (75|78) |DisruptionTarget"]
{{- end -}}

{{- define "kinetoscope.scrapeAnnotations" -}}
{{- if .Values.monitoring.scrapeAnnotations -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.training.metricsPort | quote }}
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{- /* A TrainingRuntime from which the launcher makes one for every TrainJob. Takes root, image. */ -}}
{{- define "kinetoscope.trainingRuntime" -}}
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainingRuntime
metadata:
  name: {{ include "kinetoscope.fullname" .root }}-template
  labels:
    {{- include "kinetoscope.podLabels" (dict "root" .root "component" "training" "managedBy" "kinetoscope") | nindent 4 }}
spec:
  {{- include "kinetoscope.runtimeSpec" . | nindent 2 }}
{{- end -}}
