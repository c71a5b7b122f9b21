// What the user wants of pods, and what became of them.
//
// This file owns the behaviours that POST /pods/behavior sets, the record of pod starts and
// container restarts, and what the stand-in remembers of a pod beside the API server. No client.
package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The modes of a behaviour.
const (
	// These also change pods that run already.
	modeNormal     = "normal"
	modeNeverReady = "never-ready"
	modeCrashLoop  = "crash-loop"
	// These keep a pod from starting; one that runs already keeps running.
	modeUnschedulable    = "unschedulable"
	modeImagePullBackOff = "image-pull-backoff"
)

// defaultDelay is from a pod's binding to its being ready, and from its deletion to its end.
const defaultDelay = 50 * time.Millisecond

// behavior of the pods of one StatefulSet, one namespace or all.
type behavior struct {
	mode        string
	readyDelay  time.Duration
	deleteDelay time.Duration
	// onlyNew leaves alone the pods that the stand-in knew at the time since.
	onlyNew bool
	since   time.Time
}

// behaviorScope: empty fields match all.
type behaviorScope struct{ namespace, statefulSet string }

type behaviors struct {
	mu     sync.Mutex
	scopes map[behaviorScope]behavior
}

func newBehaviors() *behaviors {
	return &behaviors{scopes: map[behaviorScope]behavior{}}
}

func (b *behaviors) set(scope behaviorScope, value behavior) error {
	switch value.mode {
	case modeNormal, modeNeverReady, modeUnschedulable, modeImagePullBackOff, modeCrashLoop:
	default:
		return fmt.Errorf("no mode %q", value.mode)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scopes[scope] = value
	return nil
}

// of is the behaviour of a pod first seen at the given time: the one of the narrowest scope.
func (b *behaviors) of(pod *core.Pod, firstSeen time.Time) behavior {
	statefulSet := ""
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "StatefulSet" {
		statefulSet = owner.Name
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, scope := range []behaviorScope{{pod.Namespace, statefulSet}, {pod.Namespace, ""}, {"", statefulSet}, {"", ""}} {
		value, ok := b.scopes[scope]
		if !ok || value.onlyNew && firstSeen.Before(value.since) {
			continue
		}
		return value
	}
	return behavior{mode: modeNormal, readyDelay: defaultDelay, deleteDelay: defaultDelay}
}

// podStart is one pod that became running.
type podStart struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	UID         types.UID         `json:"uid"`
	Time        string            `json:"time"`
	Revision    string            `json:"revision"`
	Annotations map[string]string `json:"annotations"`
	Images      []string          `json:"images"`
}

// podStarts is the record, in order of time.
type podStarts struct {
	mu       sync.Mutex
	starts   []podStart
	restarts map[string]int
}

func newPodStarts() *podStarts {
	return &podStarts{restarts: map[string]int{}}
}

func (s *podStarts) started(pod *core.Pod, at time.Time) {
	start := podStart{
		Namespace:   pod.Namespace,
		Name:        pod.Name,
		UID:         pod.UID,
		Time:        at.UTC().Format(time.RFC3339Nano),
		Revision:    pod.Labels["controller-revision-hash"],
		Annotations: maps.Clone(pod.Annotations),
		Images:      []string{},
	}
	if start.Annotations == nil {
		start.Annotations = map[string]string{}
	}
	for _, container := range pod.Spec.Containers {
		start.Images = append(start.Images, container.Image)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts = append(s.starts, start)
}

// undo takes back a start that did not reach the API server.
func (s *podStarts) undo(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts = slices.DeleteFunc(s.starts, func(start podStart) bool { return start.UID == uid })
}

func (s *podStarts) restarted(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restarts[namespace]++
}

// podStartReport answers GET /pods/starts.
type podStartReport struct {
	Total    int        `json:"total"`
	Restarts int        `json:"restarts"`
	Starts   []podStart `json:"starts"`
}

// report is of one namespace, or of all if it is empty.
func (s *podStarts) report(namespace string) podStartReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	report := podStartReport{Starts: []podStart{}}
	for _, start := range s.starts {
		if namespace == "" || start.Namespace == namespace {
			report.Starts = append(report.Starts, start)
		}
	}
	for of, count := range s.restarts {
		if namespace == "" || of == namespace {
			report.Restarts += count
		}
	}
	report.Total = len(report.Starts)
	return report
}

// podRecord is what the stand-in knows of one pod. Copies are handed out; changes go through
// podMemory.change.
type podRecord struct {
	firstSeen   time.Time
	boundAt     time.Time
	deletedAt   time.Time
	startedAt   time.Time
	ip          string
	restarts    int32
	lastRestart time.Time
	// unreadyUntil: after a crash by command.
	unreadyUntil time.Time
	// shownRestarts is the restart count that the API server has been told.
	shownRestarts int32
}

func (r podRecord) started() bool { return !r.startedAt.IsZero() }

type podMemory struct {
	mu      sync.Mutex
	records map[types.UID]*podRecord
	uids    map[string]types.UID
	nextIP  int
}

func newPodMemory() *podMemory {
	return &podMemory{records: map[types.UID]*podRecord{}, uids: map[string]types.UID{}, nextIP: 10}
}

// change makes the record if there is none, alters it (alter may be nil) and returns a copy.
func (m *podMemory) change(pod *core.Pod, alter func(*podRecord)) podRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, ok := m.records[pod.UID]
	if !ok {
		ip := fmt.Sprintf("10.244.%d.%d", m.nextIP>>8&255, m.nextIP&255)
		m.nextIP++
		record = &podRecord{firstSeen: time.Now(), ip: ip}
		m.records[pod.UID] = record
	}
	key := pod.Namespace + "/" + pod.Name
	if before, ok := m.uids[key]; ok && before != pod.UID {
		delete(m.records, before)
	}
	m.uids[key] = pod.UID
	if alter != nil {
		alter(record)
	}
	return *record
}

// forget drops the record of a pod that is gone.
func (m *podMemory) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, m.uids[key])
	delete(m.uids, key)
}
