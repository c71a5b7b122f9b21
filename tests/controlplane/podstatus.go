// The status that a kubelet would report for a pod.
//
// Pure: from the pod, the record of it and its behaviour to a status; no client, no clock.
package main

import (
	"crypto/sha256"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// waiting is why the containers of a pod do not run.
type waiting struct{ reason, message string }

// waitingStatus is the status of a bound pod whose containers have not started.
func waitingStatus(pod *core.Pod, now time.Time, why waiting) core.PodStatus {
	status := boundStatus(pod, now)
	status.Phase = core.PodPending
	status.InitContainerStatuses = containerStatuses(pod, pod.Spec.InitContainers, pod.Status.InitContainerStatuses)
	status.ContainerStatuses = containerStatuses(pod, pod.Spec.Containers, pod.Status.ContainerStatuses)
	for _, list := range [][]core.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for i := range list {
			list[i].ImageID, list[i].ContainerID = "", ""
			list[i].State = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: why.reason, Message: why.message}}
		}
	}
	setReady(&status, pod, now, false)
	return status
}

// runningStatus is the status of a pod that has started: its containers run and are ready, or
// run and are not, or crash again and again.
func runningStatus(pod *core.Pod, record podRecord, mode string, now time.Time) core.PodStatus {
	crashing := mode == modeCrashLoop
	ready := !crashing && mode != modeNeverReady && !now.Before(record.unreadyUntil)
	status := boundStatus(pod, now)
	status.Phase = core.PodRunning
	status.HostIP = nodeIP
	status.HostIPs = []core.HostIP{{IP: nodeIP}}
	status.PodIP = record.ip
	status.PodIPs = []core.PodIP{{IP: record.ip}}
	startedAt := record.startedAt
	if record.lastRestart.After(startedAt) {
		startedAt = record.lastRestart
	}
	status.InitContainerStatuses = containerStatuses(pod, pod.Spec.InitContainers, pod.Status.InitContainerStatuses)
	for i, container := range pod.Spec.InitContainers {
		of := &status.InitContainerStatuses[i]
		of.Ready = true
		if container.RestartPolicy != nil && *container.RestartPolicy == core.ContainerRestartPolicyAlways {
			of.Started = new(true)
			of.State = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: stamp(record.startedAt)}}
			continue
		}
		of.Started = new(false)
		of.State = core.ContainerState{Terminated: &core.ContainerStateTerminated{
			Reason: "Completed", StartedAt: stamp(record.startedAt),
			FinishedAt: stamp(record.startedAt), ContainerID: of.ContainerID,
		}}
	}
	status.ContainerStatuses = containerStatuses(pod, pod.Spec.Containers, pod.Status.ContainerStatuses)
	for i := range status.ContainerStatuses {
		of := &status.ContainerStatuses[i]
		of.RestartCount = record.restarts
		of.ContainerID = containerID(pod, of.Name, record.restarts)
		of.Ready = ready
		of.Started = new(!crashing)
		of.State = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: stamp(startedAt)}}
		if record.restarts > 0 {
			of.LastTerminationState = core.ContainerState{Terminated: &core.ContainerStateTerminated{
				ExitCode: 1, Reason: "Error", StartedAt: stamp(record.startedAt),
				FinishedAt: stamp(startedAt), ContainerID: containerID(pod, of.Name, record.restarts-1),
			}}
		}
		if crashing {
			of.State = core.ContainerState{Waiting: &core.ContainerStateWaiting{
				Reason: "CrashLoopBackOff",
				Message: fmt.Sprintf("back-off 10s restarting failed container=%s pod=%s_%s(%s)",
					of.Name, pod.Name, pod.Namespace, pod.UID),
			}}
		}
	}
	setCondition(&status, pod, now, core.PodReadyToStartContainers, true, "", "")
	setCondition(&status, pod, now, core.PodInitialized, true, "", "")
	setReady(&status, pod, now, ready)
	return status
}

// boundStatus keeps what is there and adds what every bound pod has.
func boundStatus(pod *core.Pod, now time.Time) core.PodStatus {
	status := *pod.Status.DeepCopy()
	status.Reason, status.Message = "", ""
	status.ObservedGeneration = pod.Generation
	if status.StartTime == nil {
		status.StartTime = new(stamp(now))
	}
	setCondition(&status, pod, now, core.PodScheduled, true, "", "")
	return status
}

func setReady(status *core.PodStatus, pod *core.Pod, now time.Time, ready bool) {
	reason, message := "", ""
	if !ready {
		var names []string
		for _, container := range pod.Spec.Containers {
			names = append(names, container.Name)
		}
		reason, message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", names)
	}
	setCondition(status, pod, now, core.ContainersReady, ready, reason, message)
	setCondition(status, pod, now, core.PodReady, ready, reason, message)
}

// setCondition changes the transition time only with the status.
func setCondition(status *core.PodStatus, pod *core.Pod, now time.Time, kind core.PodConditionType, holds bool, reason, message string) {
	condition := core.PodCondition{
		Type: kind, Status: core.ConditionFalse, Reason: reason, Message: message,
		ObservedGeneration: pod.Generation, LastTransitionTime: stamp(now),
	}
	if holds {
		condition.Status = core.ConditionTrue
	}
	for i, present := range status.Conditions {
		if present.Type == kind {
			if present.Status == condition.Status {
				condition.LastTransitionTime = present.LastTransitionTime
			}
			status.Conditions[i] = condition
			return
		}
	}
	status.Conditions = append(status.Conditions, condition)
}

// containerStatuses has one entry a container; restart counts that were reported stay.
func containerStatuses(pod *core.Pod, containers []core.Container, present []core.ContainerStatus) []core.ContainerStatus {
	var statuses []core.ContainerStatus
	for _, container := range containers {
		status := core.ContainerStatus{
			Name:        container.Name,
			Image:       container.Image,
			ImageID:     fmt.Sprintf("%s@sha256:%x", container.Image, sha256.Sum256([]byte(container.Image))),
			ContainerID: containerID(pod, container.Name, 0),
			Started:     new(false),
		}
		for _, old := range present {
			if old.Name == container.Name {
				status.RestartCount = old.RestartCount
				status.LastTerminationState = old.LastTerminationState
			}
		}
		statuses = append(statuses, status)
	}
	return statuses
}

// stamp has the precision that the API server keeps, so that an unchanged status stays equal.
func stamp(at time.Time) metav1.Time { return metav1.NewTime(at.Truncate(time.Second)) }

func containerID(pod *core.Pod, container string, restarts int32) string {
	return fmt.Sprintf("stand-in://%x", sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", pod.UID, container, restarts)))
}
