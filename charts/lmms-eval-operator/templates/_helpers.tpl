{{- define "lmms-eval-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* Short enough for what is appended to it. */ -}}
{{- define "lmms-eval-operator.fullname" -}}
{{- $name := include "lmms-eval-operator.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "lmms-eval-operator.serviceAccount" -}}
{{- if and .Values.rbac.create (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: it is missing. Name the account that exists, else every pod of the namespace that has none of its own gets the operator's rights" -}}
{{- end -}}
{{- $default := ternary (include "lmms-eval-operator.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $default -}}
{{- end -}}

{{- define "lmms-eval-operator.image" -}}
{{- if .Values.image.digest -}}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .Values.image.digest) -}}
{{- fail "image.digest: it is no digest. Write sha256: and 64 hexadecimal digits" -}}
{{- end -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "lmms-eval-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lmms-eval-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Labels of an object; (dict "root" $ "more" its own, "component" what it belongs to). */ -}}
{{- define "lmms-eval-operator.labels" -}}
{{- $root := .root -}}
{{- $own := include "lmms-eval-operator.selectorLabels" $root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/component" (.component | default "operator") -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- merge $own (.more | default dict) $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{- /* Name, labels and annotations of an object; (dict "root" $ "name" … "namespace" … "annotations" …).
       Without a namespace the object is of the cluster. */ -}}
{{- define "lmms-eval-operator.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "lmms-eval-operator.labels" (dict "root" .root "more" .labels "component" .component) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Of a CRD; (dict "root" $ "name" …). A release that goes leaves it behind, if it is to be kept. */ -}}
{{- define "lmms-eval-operator.crdMetadata" -}}
{{- $keep := ternary (dict "helm.sh/resource-policy" "keep") (dict) .root.Values.crds.keep -}}
{{- include "lmms-eval-operator.metadata" (dict "root" .root "name" .name "annotations" $keep "component" "crds") -}}
{{- end -}}

{{- /* The operator's configuration file. */ -}}
{{- define "lmms-eval-operator.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "leaseName" (include "lmms-eval-operator.fullname" .) -}}
{{- if .Values.nodeLoss.enabled -}}
{{- $_ := set $config "nodeLossSeconds" (.Values.nodeLoss.seconds | int) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- /* Annotations of what `helm test` makes. Its objects have to outlive the pod, which comes last. */ -}}
{{- define "lmms-eval-operator.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: {{ .policy }}
{{- end -}}

{{- define "lmms-eval-operator.testNamespace" -}}
{{- $watched := .Values.config.namespaces | default list -}}
{{- if and .Values.test.namespace $watched (not (has .Values.test.namespace $watched)) -}}
{{- fail "test.namespace: config.namespaces does not name it, so the operator would not see the run. Name it there too" -}}
{{- end -}}
{{- .Values.test.namespace | default (first $watched) | default .Release.Namespace -}}
{{- end -}}
