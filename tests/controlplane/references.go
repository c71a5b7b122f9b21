// What a pod needs to find in its namespace before a kubelet can start it.
//
// This file owns the check of the Secrets and ConfigMaps that a pod refers to, always against
// the API server: a cache would now and then miss one that was made just before the pod.
package main

import (
	"context"
	"fmt"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// reference is to a Secret or a ConfigMap, and to one of its keys unless that is empty.
type reference struct{ kind, name, key string }

// missingReference tells why the pod cannot start, nil if it can. As with a kubelet, volumes
// come first and leave the containers in ContainerCreating; the environment is a
// CreateContainerConfigError.
func (r *standInRun) missingReference(ctx context.Context, pod *core.Pod) (*waiting, error) {
	keys := map[reference]sets.Set[string]{}
	present := func(of reference) (bool, error) {
		object := reference{kind: of.kind, name: of.name}
		found, ok := keys[object]
		if !ok {
			var err error
			if found, err = r.keysOf(ctx, pod.Namespace, object); err != nil {
				return false, err
			}
			keys[object] = found
		}
		return found != nil && (of.key == "" || found.Has(of.key)), nil
	}
	for _, of := range volumeReferences(pod) {
		if ok, err := present(of); err != nil {
			return nil, err
		} else if !ok {
			return &waiting{reason: "ContainerCreating"}, nil
		}
	}
	for _, of := range environmentReferences(pod) {
		if ok, err := present(of); err != nil {
			return nil, err
		} else if !ok {
			message := fmt.Sprintf("%s %q not found", of.kind, of.name)
			if keys[reference{kind: of.kind, name: of.name}] != nil {
				message = fmt.Sprintf("couldn't find key %s in %s %s/%s", of.key, of.kind, pod.Namespace, of.name)
			}
			return &waiting{"CreateContainerConfigError", message}, nil
		}
	}
	return nil, nil
}

// keysOf is nil if there is no such object.
func (r *standInRun) keysOf(ctx context.Context, namespace string, of reference) (sets.Set[string], error) {
	var found sets.Set[string]
	var err error
	if of.kind == "secret" {
		var secret *core.Secret
		if secret, err = r.client.CoreV1().Secrets(namespace).Get(ctx, of.name, metav1.GetOptions{}); err == nil {
			found = sets.KeySet(secret.Data)
		}
	} else {
		var configMap *core.ConfigMap
		if configMap, err = r.client.CoreV1().ConfigMaps(namespace).Get(ctx, of.name, metav1.GetOptions{}); err == nil {
			found = sets.KeySet(configMap.Data).Union(sets.KeySet(configMap.BinaryData))
		}
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return found, err
}

func volumeReferences(pod *core.Pod) []reference {
	var all []reference
	add := func(kind, name string, items []core.KeyToPath, optional *bool) {
		if optional != nil && *optional {
			return
		}
		all = append(all, reference{kind: kind, name: name})
		for _, item := range items {
			all = append(all, reference{kind, name, item.Key})
		}
	}
	for _, volume := range pod.Spec.Volumes {
		if source := volume.Secret; source != nil {
			add("secret", source.SecretName, source.Items, source.Optional)
		}
		if source := volume.ConfigMap; source != nil {
			add("configmap", source.Name, source.Items, source.Optional)
		}
		if volume.Projected == nil {
			continue
		}
		for _, projection := range volume.Projected.Sources {
			if source := projection.Secret; source != nil {
				add("secret", source.Name, source.Items, source.Optional)
			}
			if source := projection.ConfigMap; source != nil {
				add("configmap", source.Name, source.Items, source.Optional)
			}
		}
	}
	return all
}

func environmentReferences(pod *core.Pod) []reference {
	var all []reference
	add := func(kind, name, key string, optional *bool) {
		if optional == nil || !*optional {
			all = append(all, reference{kind, name, key})
		}
	}
	for _, containers := range [][]core.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, container := range containers {
			for _, from := range container.EnvFrom {
				if source := from.SecretRef; source != nil {
					add("secret", source.Name, "", source.Optional)
				}
				if source := from.ConfigMapRef; source != nil {
					add("configmap", source.Name, "", source.Optional)
				}
			}
			for _, variable := range container.Env {
				if variable.ValueFrom == nil {
					continue
				}
				if source := variable.ValueFrom.SecretKeyRef; source != nil {
					add("secret", source.Name, source.Key, source.Optional)
				}
				if source := variable.ValueFrom.ConfigMapKeyRef; source != nil {
					add("configmap", source.Name, source.Key, source.Optional)
				}
			}
		}
	}
	return all
}
