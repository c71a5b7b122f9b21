// The stand-in for scheduler and kubelet: one node, on which every pod runs.
//
// This file owns the node object and a pod's way from pending by bound and running to gone. A
// pod is counted as started before the API server is told, so that whoever sees it run also
// finds it in the record.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	core "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	nodeName = "node-1"
	// Of the documentation's addresses: nothing answers there.
	nodeIP = "192.0.2.10"
	// referenceRetry is how often a pod is tried again whose Secret or ConfigMap is missing.
	referenceRetry = 500 * time.Millisecond
	// crashPeriod is between two restarts in a crash loop.
	crashPeriod = 5 * time.Second
	// schedulingPatience is how long a claim may take to be bound before the pod is said to be
	// unschedulable.
	schedulingPatience = 500 * time.Millisecond
)

// ensureNode registers the node, ready and without the taint that a new node is given. No
// heartbeat follows: the controllers that would miss it do not run.
func (r *standInRun) ensureNode(ctx context.Context) error {
	nodes := r.client.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &core.Node{ObjectMeta: metav1.ObjectMeta{
		Name: nodeName,
		Labels: map[string]string{
			core.LabelHostname: nodeName, core.LabelOSStable: "linux", core.LabelArchStable: "amd64",
		},
	}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	node.Spec.Taints = nil
	if node, err = nodes.Update(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	now := stamp(time.Now())
	resources := core.ResourceList{
		core.ResourceCPU:    resource.MustParse("1000"),
		core.ResourceMemory: resource.MustParse("4Ti"),
		core.ResourcePods:   resource.MustParse("100k"),
	}
	node.Status.Capacity, node.Status.Allocatable = resources, resources
	node.Status.Addresses = []core.NodeAddress{{Type: core.NodeInternalIP, Address: nodeIP}, {Type: core.NodeHostName, Address: nodeName}}
	node.Status.Conditions = []core.NodeCondition{{
		Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	if _, err := nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// syncPod takes the pod one step further.
func (r *standInRun) syncPod(ctx context.Context, key string) (time.Duration, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return 0, err
	}
	pod, err := r.informers.Core().V1().Pods().Lister().Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		r.pods.forget(key)
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	record := r.pods.change(pod, nil)
	behavior := r.behaviors.of(pod, record.firstSeen)
	switch {
	case pod.DeletionTimestamp != nil:
		return r.finishPod(ctx, pod, behavior)
	case pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed:
		return 0, nil
	case pod.Spec.NodeName == "":
		return r.bindPod(ctx, pod, record, behavior)
	case pod.Spec.NodeName != nodeName:
		return 0, nil
	case !record.started():
		return r.startPod(ctx, pod, behavior)
	default:
		return r.keepPodRunning(ctx, pod, behavior)
	}
}

// finishPod ends a deleted pod as a kubelet does when its containers are gone.
func (r *standInRun) finishPod(ctx context.Context, pod *core.Pod, behavior behavior) (time.Duration, error) {
	if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
		return 0, nil // only its finalizers are in the way
	}
	record := r.pods.change(pod, func(record *podRecord) {
		if record.deletedAt.IsZero() {
			record.deletedAt = time.Now()
		}
	})
	if left := time.Until(record.deletedAt.Add(behavior.deleteDelay)); left > 0 {
		return left, nil
	}
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	err := r.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
	return 0, ignoreGone(err)
}

// bindPod plays the scheduler.
func (r *standInRun) bindPod(ctx context.Context, pod *core.Pod, record podRecord, behavior behavior) (time.Duration, error) {
	if len(pod.Spec.SchedulingGates) > 0 || !record.boundAt.IsZero() {
		return 0, nil // gated; or bound, and the cache does not know it yet
	}
	if behavior.mode == modeUnschedulable {
		return 0, r.markUnschedulable(ctx, pod, "0/1 nodes are available: 1 Insufficient memory.")
	}
	if trouble := r.claimTrouble(pod); trouble != "" {
		if time.Since(record.firstSeen) < schedulingPatience {
			return 20 * time.Millisecond, nil
		}
		return 200 * time.Millisecond, r.markUnschedulable(ctx, pod, "0/1 nodes are available: "+trouble)
	}
	err := r.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &core.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     core.ObjectReference{Kind: "Node", Name: nodeName},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, ignoreGone(err)
	}
	r.pods.change(pod, func(record *podRecord) { record.boundAt = time.Now() })
	return 0, nil
}

func (r *standInRun) markUnschedulable(ctx context.Context, pod *core.Pod, message string) error {
	status := *pod.Status.DeepCopy()
	setCondition(&status, pod, time.Now(), core.PodScheduled, false, core.PodReasonUnschedulable, message)
	return r.writePodStatus(ctx, pod, status)
}

// claimTrouble tells why the pod's claims keep it from being scheduled, "" if they do not.
func (r *standInRun) claimTrouble(pod *core.Pod) string {
	claims := r.informers.Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(pod.Namespace)
	for _, volume := range pod.Spec.Volumes {
		var name string
		switch {
		case volume.PersistentVolumeClaim != nil:
			name = volume.PersistentVolumeClaim.ClaimName
		case volume.Ephemeral != nil:
			name = pod.Name + "-" + volume.Name
		default:
			continue
		}
		claim, err := claims.Get(name)
		switch {
		case err != nil:
			return fmt.Sprintf("persistentvolumeclaim %q not found.", name)
		case claim.DeletionTimestamp != nil:
			return fmt.Sprintf("persistentvolumeclaim %q is being deleted.", name)
		case claim.Status.Phase != core.ClaimBound:
			return "pod has unbound immediate PersistentVolumeClaims."
		}
	}
	return ""
}

// startPod starts a bound pod after its delay, unless something keeps it waiting.
func (r *standInRun) startPod(ctx context.Context, pod *core.Pod, behavior behavior) (time.Duration, error) {
	record := r.pods.change(pod, func(record *podRecord) {
		if record.boundAt.IsZero() {
			record.boundAt = time.Now()
		}
	})
	if behavior.mode == modeImagePullBackOff {
		image := ""
		if len(pod.Spec.Containers) > 0 {
			image = pod.Spec.Containers[0].Image
		}
		why := waiting{"ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q", image)}
		return 0, r.writePodStatus(ctx, pod, waitingStatus(pod, time.Now(), why))
	}
	if left := time.Until(record.boundAt.Add(behavior.readyDelay)); left > 0 {
		return left, nil
	}
	why, err := r.missingReference(ctx, pod)
	if err != nil {
		return 0, err
	}
	if why != nil {
		return referenceRetry, r.writePodStatus(ctx, pod, waitingStatus(pod, time.Now(), *why))
	}
	now := time.Now()
	r.pods.change(pod, func(record *podRecord) { record.startedAt = now })
	r.starts.started(pod, now)
	again, err := r.keepPodRunning(ctx, pod, behavior)
	if apierrors.IsConflict(err) || errors.Is(err, errPodGone) {
		r.starts.undo(pod.UID)
		r.pods.change(pod, func(record *podRecord) { record.startedAt = time.Time{} })
	}
	return again, err
}

// keepPodRunning reports the state of a pod that has started, and lets it crash if it is to.
func (r *standInRun) keepPodRunning(ctx context.Context, pod *core.Pod, behavior behavior) (time.Duration, error) {
	now := time.Now()
	var again time.Duration
	crashed := false
	record := r.pods.change(pod, func(record *podRecord) {
		if behavior.mode == modeCrashLoop {
			if crashed = now.Sub(record.lastRestart) >= crashPeriod; crashed {
				record.restarts++
				record.lastRestart = now
			}
			again = record.lastRestart.Add(crashPeriod).Sub(now)
		} else if now.Before(record.unreadyUntil) {
			again = record.unreadyUntil.Sub(now)
		}
	})
	if crashed {
		r.starts.restarted(pod.Namespace)
	}
	if err := r.writePodStatus(ctx, pod, runningStatus(pod, record, behavior.mode, now)); err != nil {
		return 0, err
	}
	r.pods.change(pod, func(of *podRecord) { of.shownRestarts = record.restarts })
	return again, nil
}

// crashPod restarts the pod's containers; they are not ready for the given time. It returns the
// restart count when the API server has been told of it.
func (r *standInRun) crashPod(ctx context.Context, namespace, name string, unready time.Duration) (int32, error) {
	pod, err := r.informers.Core().V1().Pods().Lister().Pods(namespace).Get(name)
	if err != nil {
		return 0, err
	}
	crashed := false
	record := r.pods.change(pod, func(record *podRecord) {
		if crashed = record.started(); crashed {
			now := time.Now()
			record.restarts++
			record.lastRestart = now
			record.unreadyUntil = now.Add(unready)
		}
	})
	if !crashed {
		return 0, statusError{http.StatusConflict, fmt.Errorf("pod %s/%s has not started", namespace, name)}
	}
	r.starts.restarted(namespace)
	for r.pods.change(pod, nil).shownRestarts < record.restarts {
		r.podQueue.work.Add(namespace + "/" + name)
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return 0, fmt.Errorf("tell of the crash of %s/%s: %w", namespace, name, ctx.Err())
		}
	}
	return record.restarts, nil
}

// errPodGone: the pod is not there any more, or another of its name is.
var errPodGone = errors.New("pod is gone")

// writePodStatus writes nothing if nothing differs; a pod that changed meanwhile is a conflict.
func (r *standInRun) writePodStatus(ctx context.Context, pod *core.Pod, status core.PodStatus) error {
	if apiequality.Semantic.DeepEqual(pod.Status, status) {
		return nil
	}
	changed := pod.DeepCopy()
	changed.Status = status
	_, err := r.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return errPodGone
	}
	return err
}

// ignoreGone: what is gone or another needs nothing any more; its own event tells more.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
