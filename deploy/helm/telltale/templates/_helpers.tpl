{{- define "telltale.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Room is left for what is put behind it: -headless, -topics-12, -0. */}}
{{- define "telltale.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains (include "telltale.name" .) .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "telltale.name" .) | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "telltale.selector" -}}
app.kubernetes.io/name: {{ include "telltale.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "telltale.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "telltale.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "telltale.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "telltale.claim" -}}
{{ .Values.checkpoint.existingClaim | default (printf "%s-checkpoints" (include "telltale.fullname" .)) }}
{{- end }}

{{- define "telltale.checkpoint" -}}
{{ printf "/checkpoints/%s" .Values.checkpoint.file }}
{{- end }}

{{/* Never more workers than partitions: those would stand by for nothing. */}}
{{- define "telltale.mostReplicas" -}}
{{ min (int .Values.autoscaling.maxReplicas) (int .Values.partitions) }}
{{- end }}

{{/* Of every pod. */}}
{{- define "telltale.pod" -}}
serviceAccountName: {{ include "telltale.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of every container. */}}
{{- define "telltale.container" -}}
image: {{ include "telltale.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Settings of every container that talks to Kafka. */}}
{{- define "telltale.env" -}}
- name: TELLTALE_CONFIG
  value: /etc/telltale/telltale.yaml
{{- with .Values.secrets.sasl }}
{{- if .existingSecret }}
- name: TELLTALE_KAFKA__SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .usernameKey }}}}
- name: TELLTALE_KAFKA__SASL_PASSWORD_FILE
  value: /etc/telltale/sasl/{{ .passwordKey }}
{{- end }}
{{- end }}
{{- with .Values.secrets.tls }}
{{- if .existingSecret }}
{{- range $name, $key := dict "SSL_CAFILE" .caKey "SSL_CERTFILE" .certKey "SSL_KEYFILE" .keyKey "SSL_KEY_PASSWORD_FILE" .keyPasswordKey }}
{{- if $key }}
- name: TELLTALE_KAFKA__{{ $name }}
  value: /etc/telltale/tls/{{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "telltale.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: config, mountPath: /etc/telltale/telltale.yaml, subPath: telltale.yaml, readOnly: true}
{{- if .Values.secrets.sasl.existingSecret }}
- {name: sasl, mountPath: /etc/telltale/sasl, readOnly: true}
{{- end }}
{{- if .Values.secrets.tls.existingSecret }}
- {name: tls, mountPath: /etc/telltale/tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "telltale.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: config
  configMap: {name: {{ include "telltale.fullname" . }}}
{{- with .Values.secrets.sasl.existingSecret }}
- name: sasl
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.secrets.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* A stage beside the workers: name, of its command; section, of its settings in the environment; values; root. */}}
{{- define "telltale.stage" }}
{{- $root := .root }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "telltale.fullname" $root }}-{{ .name }}
  labels:
    {{- include "telltale.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  replicas: {{ .values.replicas }}
  selector:
    matchLabels:
      {{- include "telltale.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "telltale.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ toYaml $root.Values.config | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "telltale.pod" $root | nindent 6 }}
      terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
      containers:
        - name: {{ .name }}
          {{- include "telltale.container" $root | nindent 10 }}
          args: [{{ .name }}]
          env:
            {{- include "telltale.env" $root | nindent 12 }}
            - {name: TELLTALE_{{ .section }}__METRICS_HOST, value: 0.0.0.0}
            - {name: TELLTALE_{{ .section }}__METRICS_PORT, value: "9464"}
            - name: TELLTALE_KAFKA__INSTANCE
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
          ports:
            - {name: metrics, containerPort: 9464, protocol: TCP}
          startupProbe:
            httpGet: {path: /metrics, port: metrics}
            periodSeconds: 2
            failureThreshold: 60
          # A loop that is stuck ends the process by itself.
          livenessProbe:
            httpGet: {path: /metrics, port: metrics}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          resources: {{- toYaml .values.resources | nindent 12 }}
          volumeMounts: {{- include "telltale.mounts" $root | nindent 12 }}
      volumes: {{- include "telltale.volumes" $root | nindent 8 }}
{{- end }}
