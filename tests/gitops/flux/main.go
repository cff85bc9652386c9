// Says how Flux takes each object of a JSON list on standard input, with the health check
// expressions of the Kustomization in a file.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/statusreaders"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := answer(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(ctx context.Context, file string) error {
	readers, err := statusReaders(file)
	if err != nil {
		return err
	}
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, raw := range objects {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return err
		}
		for _, reader := range readers {
			if !reader.Supports(object.GroupVersionKind().GroupKind()) {
				continue
			}
			found, err := reader.ReadStatusForObject(ctx, nil, object)
			if err != nil {
				return err
			}
			message := found.Message
			if found.Error != nil {
				message = found.Error.Error()
			}
			verdicts = append(verdicts, verdict{found.Status.String(), message})
			break
		}
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

// statusReaders are those of the file's expressions, and after them kstatus for all other kinds, as
// in the controller. The file is read strictly, by Flux' own types.
func statusReaders(file string) ([]engine.StatusReader, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var readers []engine.StatusReader
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			return nil, err
		}
		switch kind.GroupVersionKind() {
		case sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind):
			if err := yaml.UnmarshalStrict(document, &sourcev1.GitRepository{}); err != nil {
				return nil, err
			}
		case kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind):
			var found kustomizev1.Kustomization
			if err := yaml.UnmarshalStrict(document, &found); err != nil {
				return nil, err
			}
			reader, err := cel.NewStatusReader(found.Spec.HealthCheckExprs)
			if err != nil {
				return nil, err
			}
			readers = append(readers, reader(nil))
		default:
			return nil, fmt.Errorf("%s: unexpected kind %s", file, kind.GroupVersionKind())
		}
	}
	return append(readers, statusreaders.NewGenericStatusReader(nil, status.Compute)), nil
}
