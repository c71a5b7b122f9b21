// The stand-in for storage: provisioner, deleter and resizer of one made-up driver.
//
// This file owns the storage classes, a volume for each claim of a class with our provisioner
// (bound by the real binder), its end when it is released, and a claim's growth. No directory
// is ever made: nothing mounts the volumes.
package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	provisioner            = "controlplane.test/volumes"
	provisionedBy          = "pv.kubernetes.io/provisioned-by"
	defaultClassAnnotation = "storageclass.kubernetes.io/is-default-class"
)

// volumeSettings are what POST /volumes changes.
type volumeSettings struct {
	// ResizeHold: claims that ask for more are marked as resizing and stay so.
	ResizeHold bool `json:"resizeHold"`
	// HoldAs: the condition with which a claim on hold is marked, Resizing when empty.
	HoldAs string `json:"holdAs"`
	// BindHold: claims are given no volume.
	BindHold bool `json:"bindHold"`
}

// resizeConditions are those with which a claim says how far its growth is.
var resizeConditions = []core.PersistentVolumeClaimConditionType{
	core.PersistentVolumeClaimResizing,
	core.PersistentVolumeClaimFileSystemResizePending,
	core.PersistentVolumeClaimControllerResizeError,
	core.PersistentVolumeClaimNodeResizeError,
}

// ensureStorageClasses makes the default class `standard`, whose claims can grow, and `fixed`,
// whose claims cannot.
func (r *standInRun) ensureStorageClasses(ctx context.Context) error {
	for name, annotations := range map[string]map[string]string{
		"standard": {defaultClassAnnotation: "true"},
		"fixed":    nil,
	} {
		_, err := r.client.StorageV1().StorageClasses().Create(ctx, &storage.StorageClass{
			ObjectMeta:           metav1.ObjectMeta{Name: name, Annotations: annotations},
			Provisioner:          provisioner,
			AllowVolumeExpansion: new(name == "standard"),
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("storage class %s: %w", name, err)
		}
	}
	return nil
}

// syncClaim gives a pending claim its volume and lets a bound one grow.
func (r *standInRun) syncClaim(ctx context.Context, key string) (time.Duration, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return 0, err
	}
	claim, err := r.informers.Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	if claim.DeletionTimestamp != nil || claim.Spec.StorageClassName == nil {
		return 0, nil
	}
	class, err := r.informers.Storage().V1().StorageClasses().Lister().Get(*claim.Spec.StorageClassName)
	if apierrors.IsNotFound(err) {
		return time.Second, nil // its class may come yet
	} else if err != nil {
		return 0, err
	}
	if class.Provisioner != provisioner {
		return 0, nil
	}
	settings := r.volumes.of(namespace)
	switch {
	case claim.Spec.VolumeName == "" && !settings.BindHold:
		return 0, r.provision(ctx, claim, class)
	case claim.Status.Phase == core.ClaimBound:
		return 0, r.grow(ctx, claim, settings)
	}
	return 0, nil
}

func (r *standInRun) provision(ctx context.Context, claim *core.PersistentVolumeClaim, class *storage.StorageClass) error {
	name := "pvc-" + string(claim.UID)
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	_, err := r.client.CoreV1().PersistentVolumes().Create(ctx, &core.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisioner}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: policy,
			PersistentVolumeSource: core.PersistentVolumeSource{
				HostPath: &core.HostPathVolumeSource{Path: "/nonexistent/" + name},
			},
			ClaimRef: &core.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
				ResourceVersion: claim.ResourceVersion,
			},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// grow plays the resizer, on the volume first.
func (r *standInRun) grow(ctx context.Context, claim *core.PersistentVolumeClaim, settings volumeSettings) error {
	wanted := claim.Spec.Resources.Requests[core.ResourceStorage]
	if wanted.Cmp(claim.Status.Capacity[core.ResourceStorage]) <= 0 {
		return nil
	}
	changed := claim.DeepCopy()
	said := core.PersistentVolumeClaimConditionType(settings.HoldAs)
	if said == "" {
		said = core.PersistentVolumeClaimResizing
	}
	resizing := func(c core.PersistentVolumeClaimCondition) bool {
		return slices.Contains(resizeConditions, c.Type)
	}
	if settings.ResizeHold {
		is := func(c core.PersistentVolumeClaimCondition) bool { return c.Type == said }
		if slices.ContainsFunc(changed.Status.Conditions, is) {
			return nil
		}
		changed.Status.Conditions = slices.DeleteFunc(changed.Status.Conditions, resizing)
		changed.Status.Conditions = append(changed.Status.Conditions, core.PersistentVolumeClaimCondition{
			Type: said, Status: core.ConditionTrue, LastTransitionTime: stamp(time.Now()),
			Message: "held back by the test",
		})
	} else {
		volume, err := r.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		volume.Spec.Capacity = core.ResourceList{core.ResourceStorage: wanted}
		if _, err := r.client.CoreV1().PersistentVolumes().Update(ctx, volume, metav1.UpdateOptions{}); err != nil {
			return err
		}
		changed.Status.Conditions = slices.DeleteFunc(changed.Status.Conditions, resizing)
		changed.Status.Capacity[core.ResourceStorage] = wanted
	}
	_, err := r.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return ignoreMissing(err)
}

// syncVolume deletes a volume of ours whose claim is gone.
func (r *standInRun) syncVolume(ctx context.Context, name string) (time.Duration, error) {
	volume, err := r.informers.Core().V1().PersistentVolumes().Lister().Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	if volume.Annotations[provisionedBy] != provisioner || volume.DeletionTimestamp != nil ||
		volume.Status.Phase != core.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return 0, nil
	}
	return 0, ignoreMissing(r.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{}))
}
