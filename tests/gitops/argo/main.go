// Says how Argo CD takes each object of a JSON list on standard input.
//
//	argo health FILE          its health, with the settings of the ConfigMap argocd-cm in a file
//	argo actions FILE         the object that each action which may be chosen would make of it
//	argo diff                 whether Argo CD without server-side diff sees a difference between
//	                          {"config": as in Git, "live": as in the cluster}
//	argo applicationset FILE  reads an ApplicationSet strictly
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	appv1 "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v2/util/lua"
	"github.com/argoproj/argo-cd/v2/util/settings"
	"github.com/argoproj/gitops-engine/pkg/diff"
	"github.com/argoproj/gitops-engine/pkg/health"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

const namespace = "argocd"

var labels = map[string]string{"app.kubernetes.io/part-of": "argocd"}

func main() {
	if err := answer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer() error {
	var documents []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&documents); err != nil {
		return err
	}
	say, err := command(os.Args[1:])
	if err != nil {
		return err
	}
	answers := []any{}
	for _, raw := range documents {
		said, err := say(raw)
		if err != nil {
			return err
		}
		answers = append(answers, said)
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func command(arguments []string) (func(json.RawMessage) (any, error), error) {
	switch arguments[0] {
	case "health":
		overrides, err := settingsOf(arguments[1])
		return func(raw json.RawMessage) (any, error) { return healthOf(raw, overrides) }, err
	case "actions":
		overrides, err := settingsOf(arguments[1])
		vm := lua.VM{ResourceOverrides: overrides}
		return func(raw json.RawMessage) (any, error) { return actionsOf(raw, vm) }, err
	case "diff":
		return differs, nil
	case "applicationset":
		return func(json.RawMessage) (any, error) { return applicationSet(arguments[1]) }, nil
	}
	return nil, fmt.Errorf("unknown command %s", arguments[0])
}

// settingsOf reads argocd-cm as Argo CD does, from a cluster that holds nothing else.
func settingsOf(file string) (map[string]appv1.ResourceOverride, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return nil, err
	}
	config.Namespace, config.Labels = namespace, labels
	secret := corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "argocd-secret", Namespace: namespace, Labels: labels},
		Data:       map[string][]byte{"server.secretkey": []byte("unused")},
	}
	client := fake.NewSimpleClientset(&config, &secret)
	return settings.NewSettingsManager(context.Background(), client, namespace).GetResourceOverrides()
}

func healthOf(raw json.RawMessage, overrides map[string]appv1.ResourceOverride) (any, error) {
	object, err := read(raw)
	if err != nil {
		return nil, err
	}
	found, err := health.GetResourceHealth(object, lua.ResourceHealthOverrides(overrides))
	if err != nil {
		return nil, err
	}
	if found == nil { // it has none, and counts for nothing in an Application's
		found = &health.HealthStatus{}
	}
	return map[string]string{"status": string(found.Status), "message": found.Message}, nil
}

func actionsOf(raw json.RawMessage, vm lua.VM) (any, error) {
	object, err := read(raw)
	if err != nil {
		return nil, err
	}
	scripts, err := vm.GetResourceActionDiscovery(object)
	if err != nil {
		return nil, err
	}
	made := map[string]any{}
	if len(scripts) == 0 { // the kind has none
		return made, nil
	}
	actions, err := vm.ExecuteResourceActionDiscovery(object, scripts)
	if err != nil {
		return nil, err
	}
	for _, action := range actions {
		if action.Disabled {
			continue
		}
		definition, err := vm.GetResourceAction(object, action.Name)
		if err != nil {
			return nil, err
		}
		impacted, err := vm.ExecuteResourceAction(object, definition.ActionLua)
		if err != nil {
			return nil, err
		}
		if len(impacted) != 1 || impacted[0].K8SOperation != lua.PatchOperation {
			return nil, fmt.Errorf("%s: it does more than to patch its object", action.Name)
		}
		made[action.Name] = impacted[0].UnstructuredObj.Object
	}
	return made, nil
}

func differs(raw json.RawMessage) (any, error) {
	var pair struct{ Config, Live json.RawMessage }
	if err := json.Unmarshal(raw, &pair); err != nil {
		return nil, err
	}
	config, err := read(pair.Config)
	if err != nil {
		return nil, err
	}
	live, err := read(pair.Live)
	if err != nil {
		return nil, err
	}
	found, err := diff.Diff(config, live, diff.WithNormalizer(diff.GetNoopNormalizer()))
	if err != nil {
		return nil, err
	}
	return found.Modified, nil
}

func applicationSet(file string) (any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found appv1.ApplicationSet
	if err := yaml.UnmarshalStrict(text, &found); err != nil {
		return nil, err
	}
	return map[string]string{"kind": found.Kind, "name": found.Name}, nil
}

func read(raw json.RawMessage) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	return object, object.UnmarshalJSON(raw)
}
