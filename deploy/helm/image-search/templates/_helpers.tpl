{{/* At most 45 characters: with a hash after it, a StatefulSet's name is a label, and those have at most 63. */}}
{{- define "image-search.fullname" -}}
{{- contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) | trunc 45 | trimSuffix "-" }}
{{- end }}

{{/* Labels that select a component's pods: dict "root" $ "component" "api" */}}
{{- define "image-search.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "image-search.labels" -}}
{{ include "image-search.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "image-search.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}{{ hasPrefix "sha256:" $tag | ternary "@" ":" }}{{ $tag }}
{{- end }}

{{/* A value of YAML as an environment variable: large numbers not as 2.1e+09 */}}
{{- define "image-search.text" -}}
{{ kindIs "string" . | ternary . (toJson .) | quote }}
{{- end }}

{{- define "image-search.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* dict "user" 10001 "group" 10001 */}}
{{- define "image-search.pod-security" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .group }}
fsGroup: {{ .group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The claim of blobs or models: dict "root" $ "name" "blobs" */}}
{{- define "image-search.claim" -}}
{{ (index .root.Values .name).volume.existingClaim | default (printf "%s-%s" (include "image-search.fullname" .root) .name) }}
{{- end }}

{{/* Replicas of a role; left out where KEDA sets them: dict "root" $ "role" "fetch" */}}
{{- define "image-search.replicas" -}}
{{- if .root.Values.stopped -}}
replicas: 0
{{- else if not (and .root.Values.keda.enabled (hasKey .root.Values.keda .role)) -}}
replicas: {{ (index .root.Values .role).replicas }}
{{- end }}
{{- end }}

{{/* What the pods of all roles have: dict "root" $ "role" "fetch" */}}
{{- define "image-search.pod" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
automountServiceAccountToken: false
# Else each Service of the namespace becomes variables, of which IMAGE_SEARCH_… would be refused as unknown settings.
enableServiceLinks: false
# The image has no init: the pod's reaps what is left of killed processes.
shareProcessNamespace: true
securityContext:
  {{- include "image-search.pod-security" (dict "user" 10001 "group" 10001) | nindent 2 }}
volumes:
  - name: tmp
    emptyDir: {}
  - name: models
    {{- if .root.Values.models.volume }}
    persistentVolumeClaim:
      claimName: {{ include "image-search.claim" (dict "root" .root "name" "models") }}
    {{- else }}
    emptyDir: {}
    {{- end }}
  {{- if .root.Values.blobs.volume }}
  - name: blobs
    persistentVolumeClaim:
      claimName: {{ include "image-search.claim" (dict "root" .root "name" "blobs") }}
  {{- end }}
  {{- if and (eq .role "fetch") .root.Values.existingSecrets.fetchHeaders }}
  - name: fetch-headers
    secret:
      secretName: {{ .root.Values.existingSecrets.fetchHeaders }}
      defaultMode: 0440
  {{- end }}
  {{- with .root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What the containers of all roles have: dict "root" $ "role" "fetch" */}}
{{- define "image-search.container" -}}
image: {{ include "image-search.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- include "image-search.container-security" . | nindent 2 }}
envFrom:
  {{- range .root.Values.existingSecrets.env }}
  - secretRef:
      name: {{ . }}
  {{- end }}
  - configMapRef:
      name: {{ include "image-search.fullname" .root }}
{{- $redis := .root.Values.redis }}
{{- $headers := and (eq .role "fetch") .root.Values.existingSecrets.fetchHeaders }}
{{- if or $redis.urlSecret $headers }}
env:
  {{- if $redis.urlSecret }}
  - name: IMAGE_SEARCH_REDIS_URL
    valueFrom:
      secretKeyRef: {name: {{ $redis.urlSecret }}, key: url}
  {{- end }}
  {{- if $headers }}
  - name: IMAGE_SEARCH_FETCH_HEADERS
    value: /fetch-headers/headers.json
  {{- end }}
{{- end }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  - name: models
    mountPath: /models
  {{- if .root.Values.blobs.volume }}
  - name: blobs
    mountPath: /data
  {{- end }}
  {{- if $headers }}
  - name: fetch-headers
    mountPath: /fetch-headers
    readOnly: true
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where a role's pods may run: dict "node" nodeSelector "tolerations" tolerations */}}
{{- define "image-search.nodes" -}}
{{- with .node }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Annotations of a role's pods: a changed setting replaces them. dict "root" $ "scrape" true */}}
{{- define "image-search.annotations" -}}
checksum/settings: {{ include (print .root.Template.BasePath "/settings.yaml") .root | sha256sum }}
{{- if .scrape }}
prometheus.io/scrape: "true"
prometheus.io/port: "9100"
prometheus.io/path: /metrics
{{- end }}
{{- with .root.Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}
