// Objects that must exist before the controller manager starts.
//
// This file owns applying the manifests given on the command line, and waiting until the kinds
// that they define are established and discoverable: a garbage collector that starts earlier
// learns of a new kind only 30 s later.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// applyManifests applies the files one after another, each after the kinds of the one before
// can be used.
func applyManifests(ctx context.Context, config *rest.Config, paths []string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, path := range paths {
		if err := applyManifest(ctx, config, path); err != nil {
			return fmt.Errorf("apply %s: %w", path, err)
		}
		if err := awaitKinds(ctx, config); err != nil {
			return fmt.Errorf("wait for the kinds of %s: %w", path, err)
		}
	}
	return nil
}

func applyManifest(ctx context.Context, config *rest.Config, path string) error {
	objects, err := readManifest(path)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	groups, err := restmapper.GetAPIGroupResources(discover)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for _, object := range objects {
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return err
		}
		var target dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if mapping.Scope.Name() == "namespace" {
			namespace := object.GetNamespace()
			if namespace == "" {
				namespace = metav1.NamespaceDefault
			}
			target = client.Resource(mapping.Resource).Namespace(namespace)
		}
		options := metav1.ApplyOptions{FieldManager: "controlplane", Force: true}
		if _, err := target.Apply(ctx, object.GetName(), object, options); err != nil {
			return fmt.Errorf("%s %q: %w", kind.Kind, object.GetName(), err)
		}
	}
	return nil
}

// readManifest reads YAML or JSON documents, the members of a List one by one.
func readManifest(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		switch {
		case len(object.Object) == 0: // nothing but comments
		case object.IsList():
			err := object.EachListItem(func(item runtime.Object) error {
				objects = append(objects, item.(*unstructured.Unstructured))
				return nil
			})
			if err != nil {
				return nil, err
			}
		default:
			objects = append(objects, object)
		}
	}
}

// awaitKinds waits until every CustomResourceDefinition is established and its served versions
// are found by discovery.
func awaitKinds(ctx context.Context, config *rest.Config) error {
	client, err := apiextensionsclient.NewForConfig(config)
	if err != nil {
		return err
	}
	missing := "?"
	for {
		definitions, err := client.ApiextensionsV1().CustomResourceDefinitions().List(ctx, metav1.ListOptions{})
		if err == nil {
			if missing = firstMissing(definitions.Items, client.Discovery()); missing == "" {
				return nil
			}
		} else {
			missing = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; still missing: %s", ctx.Err(), missing)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// firstMissing names a definition that cannot be used yet, "" if all can.
func firstMissing(definitions []apiextensions.CustomResourceDefinition, discover discovery.DiscoveryInterface) string {
	if len(definitions) == 0 {
		return ""
	}
	// Broken aggregated groups are an error beside the lists of all others.
	_, lists, _ := discover.ServerGroupsAndResources()
	found := sets.New[string]()
	for _, list := range lists {
		for _, resource := range list.APIResources {
			found.Insert(list.GroupVersion + "/" + resource.Name)
		}
	}
	for _, definition := range definitions {
		established := false
		for _, condition := range definition.Status.Conditions {
			established = established ||
				condition.Type == apiextensions.Established && condition.Status == apiextensions.ConditionTrue
		}
		if !established {
			return definition.Name
		}
		for _, version := range definition.Spec.Versions {
			name := definition.Spec.Group + "/" + version.Name + "/" + definition.Spec.Names.Plural
			if version.Served && !found.Has(name) {
				return name
			}
		}
	}
	return ""
}
